/**
 * Actions on dead letters: redrive, edit and publish as new, delete.
 *
 * Invariants: a letter is deleted only after its copy is stored; what a redrive does not change keeps its
 * bytes; the letter's place is the copy's idempotent id, as the broker's own redrive has it, so two redrives
 * at once store it once, and one that was cut between the two steps may be repeated; letters are neither
 * taken from nor put into what Rivulet writes alone.
 */
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';

import type { CommandArgument } from '../../client/command-encoder.ts';
import { RivuletError } from '../../errors.ts';
import { type Edit, editedFields, originTopic, redrivenFields } from '../messages/dead-fields.ts';
import { EDITED_FROM, REDRIVEN_FROM } from '../messages/entry-view.ts';
import { readEntry } from '../routes/entries.ts';
import { needed } from '../routes/parameters.ts';
import { textOf } from '../sources/commands.ts';
import { commandsOf, deadOf } from '../sources/stream-source.ts';
import { nameBytes, nameText } from '../topics/names.ts';
import { writtenMessage } from './message-options.ts';
import { type ActionCall, type ActionKind, allow, type Plan } from './plan.ts';
import { chosenEntries, MOST_ITEMS, topicOf } from './targets.ts';
import { writable } from './topic-actions.ts';

const FIRST = 5;
const GONE = 'the dead letter is not there any more';

export const deadActions: readonly ActionKind[] = [
  {
    verb: 'dead.redrive',
    command: ['XADD', 'x', '*', 'body', ''],
    needs: 'redrive',
    plan: (call) =>
      call.source.redriveOldest === undefined
        ? planOf(call, 'redrive', true, () => copyOf)
        : oldest(call, call.source.redriveOldest.bind(call.source)),
  },
  {
    verb: 'dead.edit',
    command: ['XADD', 'x', '*', 'body', ''],
    needs: 'redriveChosen',
    async plan(call) {
      const edit = editOf(call);
      if (call.target.all === true || call.target.ids?.length !== 1) {
        throw new RivuletError('INVALID_ARGUMENT', 'one dead letter is edited at a time');
      }
      const plan = await planOf(call, 'edit and publish', true, () => (raw, topic) => ({
        topic: originOf(raw, topic),
        fields: editedFields(raw.fields, edit, { [EDITED_FROM]: placeOf(topic, raw.id) }),
        // Another text for the same letter is another message, and no redrive replaces it.
        more: ` ${hashOf(edit)}`,
      }));
      return { ...plan, bytes: edit.body.length };
    },
  },
  {
    verb: 'dead.delete',
    command: ['XDEL', 'x', '0-1'],
    needs: 'redriveChosen',
    async plan(call) {
      const { viewer, target } = call;
      const topic = writable(topicOf(target));
      allow(viewer, 'XDEL', topic, '0-1');
      const { source } = call;
      const { ids, isCut } = await chosenEntries(call, topic);
      return {
        items: ids,
        target: nameText(topic),
        summary: `delete ${ids.length} dead letters of ${nameText(topic)}${cut(isCut)}`,
        confirm: nameText(topic),
        reversible: false,
        async run(id) {
          const removed = source.remove
            ? await source.remove(topic, id)
            : Number(await commandsOf(viewer).call('XDEL', topic, id)) > 0;
          if (!removed) throw new RivuletError('NOT_FOUND', GONE);
          return null;
        },
      };
    },
  },
];

/** What a person wrote; headers and key that are not given stay as the letter has them. */
function editOf({ options, setup }: ActionCall): Edit {
  if (setup.masks.hidesBodies) {
    throw new RivuletError(
      'PERMISSION_DENIED',
      'bodies hold values that are masked for you: a copy would have the masks in their place',
    );
  }
  const { body, headers } = writtenMessage(options);
  return {
    body,
    headers: options.headers == null ? null : headers,
    key: typeof options.key === 'string' ? options.key : null,
  };
}

interface Raw {
  readonly id: string;
  readonly fields: Buffer[];
}

type Copy = (
  raw: Raw,
  topic: Buffer,
) => {
  readonly topic: Buffer;
  readonly fields: CommandArgument[];
  /** Joined to the idempotent id of the copy. */
  readonly more: string;
};

/** The message as it was, for the group that could not handle it. */
const copyOf: Copy = (raw, topic) => ({
  topic: originOf(raw, topic),
  fields: redrivenFields(raw.fields, { [REDRIVEN_FROM]: placeOf(topic, raw.id) }),
  more: '',
});

/** `1795253507502-0@orders.dead`: an id has no `@`. */
export function placeOf(topic: Buffer, id: string): string {
  return `${id}@${nameText(topic)}`;
}

function originOf(raw: Raw, topic: Buffer): Buffer {
  const origin = originTopic(raw.fields);
  if (origin !== null) return writable(origin);
  const named = deadOf(topic);
  if (named !== null) return writable(nameBytes(named));
  throw new RivuletError('FAILED_PRECONDITION', 'it does not say from which topic it came');
}

/** The text by which the copy is added once: of names in UTF-8 as the broker's own redrive writes it. */
function numberOf(topic: Buffer, id: string): string {
  return `${isUtf8(topic) ? topic : nameText(topic)} ${id}`;
}

async function planOf(
  call: ActionCall,
  does: string,
  reversible: boolean,
  copying: () => Copy,
): Promise<Plan> {
  const { source, viewer, target } = call;
  const topic = writable(topicOf(target));
  const copy = copying();
  allow(viewer, 'XDEL', topic, '0-1');
  const { ids, isCut } = await chosenEntries(call, topic);
  const impossible: { what: string; why: string }[] = [];
  const first: string[] = [];
  for (const id of ids.slice(0, FIRST)) {
    const raw = await readEntry(source, viewer, topic, id);
    if (raw === null) {
      impossible.push({ what: id, why: GONE });
      continue;
    }
    const to = copy(raw, topic).topic;
    allow(viewer, 'XADD', to, '*', 'body', '');
    first.push(`${id} to ${nameText(to)}`);
  }
  const gone = new Set(impossible.map(({ what }) => what));
  const items = ids.filter((id) => !gone.has(id));
  return {
    items,
    first,
    impossible,
    target: nameText(topic),
    summary: `${does} ${items.length} of ${nameText(topic)}${cut(isCut)}`,
    reversible,
    async run(id) {
      const raw = await readEntry(source, viewer, topic, id);
      if (raw === null) throw new RivuletError('NOT_FOUND', GONE);
      const { topic: to, fields, more } = copy(raw, topic);
      if (source.move) return source.move(topic, id, to, fields, more);
      const number = `${numberOf(topic, raw.id)}${more}`;
      const idempotent = source.kind === 'redis' ? [] : ['IDMP', 'redrive', number];
      // Not one transaction: EXEC would delete the letter although its copy was refused.
      const added = await commandsOf(viewer).call('XADD', to, ...idempotent, '*', ...fields);
      await commandsOf(viewer).call('XDEL', topic, id);
      return textOf(added);
    },
  };
}

/** All letters of a topic that wait now: those that came first are taken first. */
async function oldest(
  { source, viewer, target }: ActionCall,
  redrive: (dead: Buffer, limit: number) => Promise<number>,
): Promise<Plan> {
  const topic = writable(topicOf(target));
  if (target.all !== true || (target.where ?? '').trim() !== '') {
    const why = source.capabilities.missing.redriveChosen ?? 'letters cannot be chosen here';
    throw new RivuletError('UNSUPPORTED', `${why}: redrive all of the topic`);
  }
  const known = await needed(source, 'deadTopics')(viewer);
  const length = known.find((each) => each.topic.equals(topic))?.length ?? 0;
  const shown = nameText(topic);
  const items = Array.from({ length: Math.min(length, MOST_ITEMS) }, (_, n) => `letter ${n + 1}`);
  return {
    items,
    target: shown,
    summary: `redrive ${items.length} of ${shown}, the oldest first`,
    reversible: true,
    async run() {
      if ((await redrive(topic, 1)) === 0) throw new RivuletError('NOT_FOUND', GONE);
      return null;
    },
  };
}

function hashOf({ body, headers, key }: Edit): string {
  return createHash('sha256')
    .update(JSON.stringify([headers, key]))
    .update(body)
    .digest('base64url');
}

function cut(isCut: boolean): string {
  return isCut ? `, the first ${MOST_ITEMS} that were found` : '';
}

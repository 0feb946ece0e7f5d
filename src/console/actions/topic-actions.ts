/**
 * Actions on topics and groups: publish, schedule, cancel; retention, replay, policy, delete.
 *
 * Invariant: what begins with `_rivulet.` is written by Rivulet alone, so an audit cannot be emptied here.
 */
import type { CommandArgument } from '../../client/command-encoder.ts';
import { ReplyError } from '../../client/reply.ts';
import { RivuletError } from '../../errors.ts';
import { positionOf } from '../messages/browse.ts';
import { needed } from '../routes/parameters.ts';
import { factsOf, listOf, numberOf, textOf } from '../sources/commands.ts';
import { commandsOf } from '../sources/stream-source.ts';
import { nameText } from '../topics/names.ts';
import { fieldsOf, writtenBytes, writtenMessage } from './message-options.ts';
import { type ActionCall, type ActionKind, allow, numberOption, type Plan } from './plan.ts';
import { groupOf, named, topicOf } from './targets.ts';

const LONGEST_MS = 100 * 366 * 86_400_000;

/** A plan of one thing. */
function single(
  target: string,
  summary: string,
  reversible: boolean,
  run: () => Promise<string | null>,
  confirm?: string,
): Plan {
  return {
    items: [target],
    first: [summary],
    target,
    summary,
    reversible,
    run,
    ...(confirm === undefined ? {} : { confirm }),
  };
}

export const topicActions: readonly ActionKind[] = [
  {
    verb: 'topic.publish',
    command: ['XADD', 'x', '*', 'body', ''],
    needs: 'publish',
    plan: (call) => publish(call, false),
  },
  {
    verb: 'topic.schedule',
    command: ['XADD', 'x', 'DELAY', '1', '*', 'body', ''],
    needs: 'schedule',
    plan: (call) => publish(call, true),
  },
  {
    verb: 'topic.cancelScheduled',
    command: ['XSCHEDULE', 'CANCEL', 'x', 's1'],
    needs: 'schedule',
    async plan({ viewer, target }) {
      const topic = writable(topicOf(target));
      const number = target.number ?? '';
      allow(viewer, 'XSCHEDULE', 'CANCEL', topic, number);
      const shown = nameText(topic);
      return single(shown, `cancel ${number} of ${shown}`, false, async () => {
        const done = await commandsOf(viewer).call('XSCHEDULE', 'CANCEL', topic, number);
        if (Number(done) === 0) throw new RivuletError('NOT_FOUND', 'it is not scheduled any more');
        return null;
      });
    },
  },
  {
    verb: 'topic.retention',
    command: ['XCFGSET', 'x', 'MAXLEN', '1'],
    needs: 'schedule',
    role: 'admin',
    async plan({ viewer, target, options }) {
      const topic = writable(topicOf(target));
      const limits: CommandArgument[] = [];
      for (const [option, name] of RETENTION) {
        const value = numberOption(options, option, 0, Number.MAX_SAFE_INTEGER);
        if (value !== undefined) limits.push(name, value);
      }
      if (limits.length === 0) {
        throw new RivuletError(
          'INVALID_ARGUMENT',
          'give maxAgeMs, maxBytes or maxLength; 0 = no limit',
        );
      }
      allow(viewer, 'XCFGSET', topic, ...limits.map(String));
      const shown = nameText(topic);
      const summary = `keep of ${shown}: ${limits.join(' ')}; what is beyond it is deleted now`;
      return single(shown, summary, false, async () => {
        await commandsOf(viewer).call('XCFGSET', topic, ...limits);
        return null;
      });
    },
  },
  {
    verb: 'topic.delete',
    command: ['DEL', 'x'],
    needs: 'deleteTopic',
    role: 'admin',
    async plan({ source, viewer, target }) {
      const topic = writable(topicOf(target));
      allow(viewer, 'DEL', topic);
      const { deleteTopic } = source;
      if (deleteTopic) {
        const detail = await needed(source, 'topic')(viewer, topic);
        if (detail === null) throw new RivuletError('NOT_FOUND', 'the broker has no such topic');
        const summary = `delete ${detail.name} with ${detail.length} messages and ${detail.groups} groups`;
        const run = async () => {
          await deleteTopic.call(source, topic);
          return null;
        };
        return single(detail.name, summary, false, run, detail.name);
      }
      const commands = commandsOf(viewer);
      const length = numberOf(await commands.call('XLEN', topic));
      const groups = listOf(await commands.call('XINFO', 'GROUPS', topic)).length;
      const shown = nameText(topic);
      const summary = `delete ${shown} with ${length} messages and ${groups} groups`;
      const run = async () => {
        // Another kind of key may have the name by now: XLEN refuses it, DEL would not.
        await commands.call('XLEN', topic);
        if (source.kind !== 'redis') {
          for (;;) {
            const waiting = listOf(await commands.call('XSCHEDULE', 'LIST', topic, 'COUNT', 1000));
            if (waiting.length === 0) break;
            const numbers = waiting.map((each) => textOf(listOf(each)[0]));
            await commands.call('XSCHEDULE', 'CANCEL', topic, ...numbers);
          }
        }
        const deleted = await commands.call('DEL', topic);
        if (Number(deleted) === 0) throw new RivuletError('NOT_FOUND', 'the topic is gone already');
        return null;
      };
      return single(shown, summary, false, run, shown);
    },
  },
];

const RETENTION = [
  ['maxAgeMs', 'MAXAGE'],
  ['maxBytes', 'MAXBYTES'],
  ['maxLength', 'MAXLEN'],
] as const;

export const groupActions: readonly ActionKind[] = [
  {
    verb: 'group.create',
    command: ['XGROUP', 'CREATE', 'x', 'g', '0'],
    needs: 'settle',
    async plan({ viewer, target, options }) {
      const [topic, group] = [topicOf(target), groupOf(target)];
      const from = startOf(options.from);
      allow(viewer, 'XGROUP', 'CREATE', topic, group, from);
      const shown = `${nameText(topic)} / ${nameText(group)}`;
      return single(shown, `make the group ${shown}, reading after ${from}`, true, async () => {
        await commandsOf(viewer).call('XGROUP', 'CREATE', topic, group, from);
        return null;
      });
    },
  },
  {
    verb: 'group.replay',
    command: ['XGROUP', 'DESTROY', 'x', 'g'],
    needs: 'settle',
    role: 'admin',
    plan: replay,
  },
  {
    verb: 'group.policy',
    command: ['XGROUP', 'SETPOLICY', 'x', 'g', 'ACKWAIT', '1'],
    needs: 'schedule',
    role: 'admin',
    plan: policy,
  },
  {
    verb: 'group.delete',
    command: ['XGROUP', 'DESTROY', 'x', 'g'],
    needs: 'settle',
    role: 'admin',
    async plan(call) {
      const { viewer, target } = call;
      const [topic, group] = [topicOf(target), groupOf(target)];
      allow(viewer, 'XGROUP', 'DESTROY', topic, group);
      const pending = await pendingOf(call, topic, group);
      const shown = `${nameText(topic)} / ${nameText(group)}`;
      const summary = `delete the group ${shown} with ${pending} pending messages`;
      const run = async () => {
        const done = await commandsOf(viewer).call('XGROUP', 'DESTROY', topic, group);
        if (Number(done) === 0)
          throw new RivuletError('NOT_FOUND', 'the group is not there any more');
        return null;
      };
      return single(shown, summary, false, run, nameText(group));
    },
  },
];

async function publish(call: ActionCall, isLater: boolean): Promise<Plan> {
  const { source, viewer, target, options } = call;
  const topic = writable(topicOf(target));
  const written = writtenMessage(options);
  const when = isLater ? laterOf(options) : [];
  const command = ['XADD', topic, ...when, '*', ...fieldsOf(written)] as const;
  allow(viewer, 'XADD', topic, '*', 'body', '');
  const shown = nameText(topic);
  const summary = `publish ${written.body.length} bytes to ${shown}${isLater ? ' later' : ''}`;
  const run = async () =>
    source.publish && !isLater
      ? source.publish(topic, fieldsOf(written))
      : textOf(await commandsOf(viewer).call(...(command as readonly CommandArgument[])));
  return { ...single(shown, summary, false, run), bytes: writtenBytes(written) };
}

function laterOf(options: Readonly<Record<string, unknown>>): CommandArgument[] {
  const delay = numberOption(options, 'delayMs', 1, LONGEST_MS);
  const at = numberOption(options, 'at', 0, 8.64e15);
  if (delay !== undefined && at === undefined) return ['DELAY', delay];
  if (at !== undefined && delay === undefined) return ['AT', at];
  throw new RivuletError('INVALID_ARGUMENT', 'give delayMs, or at as Unix ms');
}

async function replay(call: ActionCall): Promise<Plan> {
  const { source, viewer, target, options } = call;
  const [topic, group] = [topicOf(target), groupOf(target)];
  const from = startOf(options.from);
  allow(viewer, 'XGROUP', 'DESTROY', topic, group);
  allow(viewer, 'XGROUP', 'CREATE', topic, group, from);
  const pending = await pendingOf(call, topic, group);
  const shown = `${nameText(topic)} / ${nameText(group)}`;
  const summary = `move ${shown} to after ${from}; its ${pending} pending messages are dropped`;
  const run = async () => {
    const commands = commandsOf(viewer);
    const again: (readonly CommandArgument[])[] = [];
    if (source.kind !== 'redis') {
      const now = await commands.call('XGROUP', 'GETPOLICY', topic, group);
      if (now !== null) again.push(policyCommand(topic, group, factsOf(now)));
    }
    const replies = await commands.transaction([
      ['XGROUP', 'DESTROY', topic, group],
      ['XGROUP', 'CREATE', topic, group, from],
      ...again,
    ]);
    for (const reply of replies) if (reply instanceof ReplyError) throw reply;
    return null;
  };
  return single(shown, summary, false, run, nameText(group));
}

function policyCommand(
  topic: Buffer,
  group: Buffer,
  facts: ReturnType<typeof factsOf>,
): CommandArgument[] {
  const of = (name: string): string => textOf(facts[name]);
  const command: CommandArgument[] = ['XGROUP', 'SETPOLICY', topic, group];
  command.push('ACKWAIT', of('ackwait'), 'MAXDELIVERIES', of('maxdeliveries'));
  if (Number(of('backoff-factor')) >= 1) {
    command.push('BACKOFF', of('backoff-min'), of('backoff-max'), of('backoff-factor'));
    if (of('backoff-jitter') === '1') command.push('JITTER');
  }
  if (facts.deadletter != null) command.push('DEADLETTER', facts.deadletter as Buffer);
  return command;
}

async function policy(call: ActionCall): Promise<Plan> {
  const { viewer, target, options } = call;
  const [topic, group] = [topicOf(target), groupOf(target)];
  const command: CommandArgument[] = ['XGROUP', 'SETPOLICY', topic, group];
  const ackWait = numberOption(options, 'ackWaitMs', 1, LONGEST_MS);
  const most = numberOption(options, 'maxDeliveries', 0, 2 ** 31);
  if (ackWait !== undefined) command.push('ACKWAIT', ackWait);
  if (most !== undefined) command.push('MAXDELIVERIES', most);
  if (options.deadLetter === null) command.push('NODEADLETTER');
  else if (options.deadLetter !== undefined) {
    const dead = writable(named(String(options.deadLetter), 'topic of dead letters'));
    command.push('DEADLETTER', dead);
  }
  const { backoffMs } = options;
  if (backoffMs !== undefined && backoffMs !== null && !Array.isArray(backoffMs)) {
    throw new RivuletError('INVALID_ARGUMENT', 'backoffMs is a list: [shortest, longest]');
  }
  if (Array.isArray(backoffMs)) {
    const limits = { min: backoffMs[0], max: backoffMs[1] ?? backoffMs[0] };
    const min = numberOption(limits, 'min', 0, LONGEST_MS);
    const max = numberOption(limits, 'max', min ?? 0, LONGEST_MS);
    if (min === undefined || max === undefined) command.push('NOBACKOFF');
    else command.push('BACKOFF', min, max, 2);
  }
  if (command.length === 4) {
    throw new RivuletError(
      'INVALID_ARGUMENT',
      'give ackWaitMs, maxDeliveries, backoffMs or deadLetter',
    );
  }
  allow(viewer, 'XGROUP', 'SETPOLICY', topic, group, 'ACKWAIT', '1');
  const shown = `${nameText(topic)} / ${nameText(group)}`;
  const summary = `policy of ${shown}: ${command.slice(4).map(String).join(' ')}`;
  return single(shown, summary, true, async () => {
    await commandsOf(viewer).call(...command);
    return null;
  });
}

async function pendingOf({ viewer }: ActionCall, topic: Buffer, group: Buffer): Promise<number> {
  const summary = await commandsOf(viewer).call('XPENDING', topic, group);
  return numberOf(listOf(summary)[0]) ?? 0;
}

/** Where a group begins: `new`, `earliest`, an id (it reads what is after it), a time. */
function startOf(from: unknown): string {
  if (from === 'new' || from === '$') return '$';
  if (from === 'earliest' || from === undefined) return '0-0';
  const position = positionOf(String(from), 'from');
  if (position === null) throw new RivuletError('INVALID_ARGUMENT', 'from is empty');
  return position;
}

/** Throws PERMISSION_DENIED for a topic that Rivulet keeps itself. */
export function writable(topic: Buffer): Buffer {
  if (!topic.toString('latin1').startsWith('_rivulet.')) return topic;
  throw new RivuletError('PERMISSION_DENIED', `${nameText(topic)} is written by Rivulet alone`);
}

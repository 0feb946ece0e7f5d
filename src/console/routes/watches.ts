/**
 * What a live stream can watch, by the form of its name.
 */

import type { Actions } from '../actions/actions.ts';
import type { LivePart } from '../api-types.ts';
import type { WatchKinds } from '../http/live.ts';
import type { Call } from '../http/router.ts';
import { entryRow, SHOWN_PART } from '../messages/entry-view.ts';
import type { Services } from '../services/services.ts';
import type { ConsoleSource } from '../sources/source.ts';
import { nameBytes } from '../topics/names.ts';
import type { WorkflowView } from '../workflows/workflow-view.ts';
import { ownerOf } from './actions.ts';
import { deadLetters } from './dead.ts';
import { needed } from './parameters.ts';
import type { Reading } from './reading.ts';
import { servicesFor } from './services.ts';
import { groupDetail, topicDetail, topicsQuery } from './topics.ts';
import { workflowList } from './workflows.ts';

type Ask = (call: Call, before: LivePart | null) => Promise<LivePart>;

export function watchKinds(
  source: ConsoleSource,
  reading: Reading,
  actions: Actions,
  services: Services | null,
  workflows: WorkflowView | null,
): WatchKinds {
  const value =
    (ask: (call: Call) => Promise<unknown>): Ask =>
    async (call) => ({ kind: 'value', value: await ask(call) });
  return {
    find(watch) {
      const [, kind, rest] = /^([a-z]+)(?::(.*))?$/s.exec(watch) ?? [];
      if (kind === 'overview') return value(({ viewer }) => source.overview(viewer));
      if (kind === 'topics') {
        const query = topicsQuery(new URLSearchParams(rest ?? ''));
        return value(({ viewer }) => needed(source, 'topics')(viewer, query));
      }
      const names = namesIn(rest);
      if (kind === 'topic' && names?.length === 1) {
        return value((call) => topicDetail(source, { ...call, params: { topic: names[0]! } }));
      }
      if (kind === 'group' && names?.length === 2) {
        const params = { topic: names[0]!, group: names[1]! };
        return value((call) => groupDetail(source, { ...call, params }));
      }
      if (kind === 'tail' && names?.length === 1) return tail(source, reading, names[0]!);
      if (kind === 'dead') {
        const query = new URLSearchParams(rest ?? '');
        return value((call) => deadLetters(source, reading, { ...call, query }));
      }
      if (kind === 'workflows') {
        const query = new URLSearchParams(rest ?? '');
        return value((call) => workflowList(workflows, { ...call, query }, reading));
      }
      if (kind === 'services') {
        return value((call) => servicesFor(services, call).list());
      }
      if (kind === 'jobs') {
        return value(async (call) => actions.jobs.list(ownerOf(call)));
      }
      if (kind === 'server' && rest === undefined) {
        return value(({ viewer }) => needed(source, 'server')(viewer));
      }
      return undefined;
    },
  };
}

/** The messages that came since the last frame: at most 100, the newest, and how many were left out. */
function tail(source: ConsoleSource, reading: Reading, name: string): Ask {
  const topic = nameBytes(name);
  return async ({ account, viewer }, before) => {
    const edges = await needed(source, 'edges')(viewer, topic);
    const last = before?.kind === 'append' ? before.position : undefined;
    if (last === undefined || edges === null) {
      return { kind: 'append', entries: [], skipped: 0, position: edges?.lastId ?? '0-0' };
    }
    if (edges.lastId === null || edges.lastId === last) {
      return { kind: 'append', entries: [], skipped: 0, position: last };
    }
    const newest = await needed(source, 'entries')(viewer, topic, {
      from: null,
      isAfter: false,
      to: `(${last}`,
      newest: true,
      limit: TAIL,
      cut: SHOWN_PART,
    });
    const setup = reading.setupFor(account);
    return {
      kind: 'append',
      entries: newest.reverse().map((raw) => entryRow(raw, topic, setup)),
      skipped: newest.length === TAIL ? 1 : 0,
      position: newest.at(-1)?.id ?? last,
    };
  };
}

const TAIL = 100;

function namesIn(text: string | undefined): string[] | null {
  try {
    return text === undefined ? null : text.split('/').map(decodeURIComponent);
  } catch {
    return null;
  }
}

/**
 * The routes of topics: list, one topic, its groups, their pending messages, its schedule.
 */
import { RivuletError } from '../../errors.ts';
import type { TopicSort } from '../api-types.ts';
import type { Call, Router } from '../http/router.ts';
import type { ConsoleSource, TopicsQuery } from '../sources/source.ts';
import { nameBytes } from '../topics/names.ts';
import { count, idOf, needed, oneOf } from './parameters.ts';

const PAGE = 100;
const SORTS: readonly TopicSort[] = ['name', 'rate', 'lag', 'bytes', 'length', 'oldest', 'pending'];

export function topicRoutes(router: Router, source: ConsoleSource): void {
  router.add('GET', 'overview', ({ viewer }) => source.overview(viewer));
  router.add('GET', 'topics', ({ viewer, query }) =>
    needed(source, 'topics')(viewer, topicsQuery(query)),
  );
  router.add('GET', 'topics/{topic}', async (call) => topicDetail(source, call));
  router.add('GET', 'topics/{topic}/groups', async ({ viewer, params }) =>
    found(await needed(source, 'groups')(viewer, nameBytes(params.topic!)), 'topic'),
  );
  router.add('GET', 'topics/{topic}/groups/{group}', async (call) => groupDetail(source, call));
  router.add('GET', 'topics/{topic}/groups/{group}/pending', async ({ viewer, params, query }) => {
    const consumer = query.get('consumer');
    const page = await needed(source, 'pending')(
      viewer,
      nameBytes(params.topic!),
      nameBytes(params.group!),
      {
        after: idOf(query.get('after'), 'after'),
        consumer: consumer === null ? null : nameBytes(consumer),
        minIdleMs: count(query.get('minIdle'), 'minIdle', 0, Number.MAX_SAFE_INTEGER, 0),
        limit: count(query.get('limit'), 'limit', 1, 1000, PAGE),
      },
    );
    return found(page, 'group');
  });
}

export async function topicDetail(source: ConsoleSource, { viewer, params }: Call) {
  return found(await needed(source, 'topic')(viewer, nameBytes(params.topic!)), 'topic');
}

export async function groupDetail(source: ConsoleSource, { viewer, params }: Call) {
  const [topic, group] = [nameBytes(params.topic!), nameBytes(params.group!)];
  return found(await needed(source, 'group')(viewer, topic, group), 'group');
}

export function topicsQuery(query: URLSearchParams): TopicsQuery {
  return {
    q: query.get('q') ?? '',
    sort: oneOf(query.get('sort'), 'sort', SORTS, 'name'),
    after: query.get('after'),
    limit: count(query.get('limit'), 'limit', 1, PAGE, PAGE),
    scan: query.get('scan') === '1',
    internal: query.get('internal') === '1',
  };
}

export function found<T>(value: T | null, what: string): T {
  if (value === null) throw new RivuletError('NOT_FOUND', `the broker has no such ${what}`);
  return value;
}

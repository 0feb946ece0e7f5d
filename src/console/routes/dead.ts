/**
 * The route of dead letters.
 */
import type { Call, Router } from '../http/router.ts';
import { deadPage } from '../messages/dead-letters.ts';
import type { ConsoleSource } from '../sources/source.ts';
import { nameBytes } from '../topics/names.ts';
import type { Reading } from './reading.ts';

export function deadRoutes(router: Router, source: ConsoleSource, reading: Reading): void {
  router.add('GET', 'dead', (call) => deadLetters(source, reading, call));
}

export function deadLetters(
  source: ConsoleSource,
  reading: Reading,
  { account, viewer, query }: Pick<Call, 'account' | 'viewer' | 'query'>,
) {
  const topic = query.get('topic');
  return deadPage(
    source,
    viewer,
    {
      topic: topic === null || topic === '' ? null : nameBytes(topic),
      group: query.get('group') || null,
      after: query.get('after') || null,
    },
    reading.setupFor(account),
  );
}

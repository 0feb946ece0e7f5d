/**
 * The routes of journeys and traces.
 */
import { RivuletError } from '../../errors.ts';
import type { Trace } from '../api-types.ts';
import type { Router } from '../http/router.ts';
import { journeyOf } from '../journey/journey.ts';
import { messagesOf, spanTree } from '../journey/span-rows.ts';
import type { SpanTable } from '../journey/span-table.ts';
import type { ConsoleSource } from '../sources/source.ts';
import { nameBytes } from '../topics/names.ts';
import type { WorkflowView } from '../workflows/workflow-view.ts';
import { entryId } from './entries.ts';
import type { Reading } from './reading.ts';

export function journeyRoutes(
  router: Router,
  source: ConsoleSource,
  reading: Reading,
  workflows: WorkflowView | null,
  spans: SpanTable | null,
): void {
  router.add('GET', 'traces/{id}', async ({ viewer, params }): Promise<Trace> => {
    const traceId = (params.id ?? '').toLowerCase();
    if (!/^[0-9a-f]{32}$/.test(traceId)) {
      throw new RivuletError('INVALID_ARGUMENT', 'the id of a trace is 32 hexadecimal digits');
    }
    if (spans === null) {
      const why = source.capabilities.missing.spans ?? 'spans cannot be read here';
      throw new RivuletError('UNSUPPORTED', why);
    }
    const missing: string[] = [];
    const found = await spans.ofTrace(viewer, traceId, missing);
    return { traceId, spans: spanTree(found), messages: messagesOf(found), missing };
  });
  router.add('GET', 'journey/{topic}/{id}', async ({ account, viewer, params }) =>
    journeyOf(
      source,
      viewer,
      workflows,
      nameBytes(params.topic!),
      await entryId(source, params),
      reading.setupFor(account),
      spans,
    ),
  );
}

/**
 * The routes of workflows.
 */
import { RivuletError } from '../../errors.ts';
import type { Call, Router } from '../http/router.ts';
import type { WorkflowView } from '../workflows/workflow-view.ts';
import { idOf, oneOf } from './parameters.ts';
import type { Reading } from './reading.ts';

const STATUSES = ['running', 'parked', 'completed', 'failed', 'cancelled', 'all'] as const;

export function workflowRoutes(router: Router, view: WorkflowView | null, reading: Reading): void {
  router.add('GET', 'workflows', (call) => workflowList(view, call, reading));
  router.add('GET', 'workflows/{name}/{id}', (call) => {
    const { account, params, query } = call;
    const after = idOf(query.get('after'), 'after');
    return viewFor(view, call).detail(params.name!, params.id!, after, reading.masksFor(account));
  });
}

export function workflowList(view: WorkflowView | null, call: Call, reading: Reading) {
  const { account, query } = call;
  const status = oneOf(query.get('status'), 'status', STATUSES, 'all');
  const asked = {
    name: query.get('name') || null,
    status: status === 'all' ? null : status,
    after: query.get('after') || null,
  };
  return viewFor(view, call).page(asked, reading.masksFor(account));
}

function viewFor(view: WorkflowView | null, { viewer }: Call): WorkflowView {
  if (view === null) throw new RivuletError('UNSUPPORTED', 'this broker keeps no workflows');
  if (viewer.seesAll) return view;
  throw new RivuletError(
    'PERMISSION_DENIED',
    'workflows are shown to users who may read every topic',
  );
}

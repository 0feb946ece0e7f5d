/**
 * The routes of actions, jobs and the audit.
 */

import { AUDIT_TOPIC } from '../../broker/audit.ts';
import { decodeMessage } from '../../broker/message/entry.ts';
import type { Actions } from '../actions/actions.ts';
import type { AuditPage, AuditRow } from '../api-types.ts';
import type { Call, Router } from '../http/router.ts';
import type { RawEntry } from '../sources/commands.ts';
import type { ConsoleSource } from '../sources/source.ts';
import { timeOfId } from '../sources/stream-source.ts';
import { idOf, needed } from './parameters.ts';

const PAGE = 100;

export function actionRoutes(router: Router, source: ConsoleSource, actions: Actions): void {
  router.add('POST', 'actions/{verb}', (call) => actions.act(call));
  router.add('GET', 'jobs', (call) => actions.jobs.list(ownerOf(call)));
  router.add('GET', 'jobs/{id}', (call) => actions.jobs.find(call.params.id!, ownerOf(call)));
  router.add('POST', 'jobs/{id}/stop', (call) => actions.jobs.stop(call.params.id!, ownerOf(call)));
  router.add('GET', 'audit', (call) => auditPage(source, call));
}

/** Admins see every job; others their own. */
export function ownerOf({ account, viewer }: Pick<Call, 'account' | 'viewer'>): string | null {
  return account.roles.includes('admin') ? null : viewer.user;
}

async function auditPage(source: ConsoleSource, { viewer, query }: Call): Promise<AuditPage> {
  const before = idOf(query.get('before'), 'before');
  const found = await needed(source, 'entries')(viewer, Buffer.from(AUDIT_TOPIC), {
    from: before,
    isAfter: before !== null,
    to: null,
    newest: true,
    limit: PAGE + 1,
  });
  const rows = found.slice(0, PAGE).flatMap((raw) => {
    const row = rowOf(raw);
    return row === null ? [] : [row];
  });
  return { entries: rows, next: found.length > PAGE ? found[PAGE - 1]!.id : null };
}

/** Null: something else has written it. */
function rowOf({ id, at, fields }: RawEntry): AuditRow | null {
  try {
    const entry = JSON.parse(Buffer.from(decodeMessage(fields).body).toString());
    const text = (name: string): string => (typeof entry[name] === 'string' ? entry[name] : '');
    return {
      id,
      at: (at === undefined ? timeOfId(id) : at) ?? 0,
      user: text('user'),
      address: text('address'),
      verb: text('verb'),
      target: text('target'),
      count: typeof entry.count === 'number' ? entry.count : null,
      reason: text('reason'),
      phase: PHASES.find((phase) => phase === entry.phase) ?? 'done',
      action: text('action'),
      error: text('error'),
    };
  } catch {
    return null;
  }
}

const PHASES = ['intent', 'done', 'failed', 'refused'] as const;

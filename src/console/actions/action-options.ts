/**
 * The options of each action, by its verb.
 *
 * Invariant: an option that an action does not have is refused, because it would be passed over: a retry
 * whose step is called by another name would begin elsewhere.
 */
import { RivuletError } from '../../errors.ts';
import type { Verb } from '../api-types.ts';

const MESSAGE = ['body', 'bodyBase64', 'headers', 'key'];

export const ACTION_OPTIONS: Readonly<Record<Verb, readonly string[]>> = {
  'pending.deliver': [],
  'pending.giveBack': ['delayMs', 'reason'],
  'pending.claim': ['consumer'],
  'pending.deadLetter': ['reason'],
  'pending.acknowledge': [],
  'dead.redrive': [],
  'dead.edit': MESSAGE,
  'dead.delete': [],
  'topic.publish': MESSAGE,
  'topic.schedule': [...MESSAGE, 'delayMs', 'at'],
  'topic.cancelScheduled': [],
  'topic.retention': ['maxAgeMs', 'maxBytes', 'maxLength'],
  'topic.delete': [],
  'group.create': ['from'],
  'group.replay': ['from'],
  'group.policy': ['ackWaitMs', 'maxDeliveries', 'deadLetter', 'backoffMs'],
  'group.delete': [],
  'workflow.signal': ['name', 'value'],
  'workflow.cancel': ['reason'],
  'workflow.pause': [],
  'workflow.resume': [],
  'workflow.retry': ['from'],
  'workflow.fork': ['from', 'id'],
  'workflow.move': ['version'],
  'service.call': [],
  'service.dropNode': [],
  'server.killClient': [],
  'server.config': ['name', 'value'],
  'server.acl': ['user', 'rules'],
};

/** Throws INVALID_ARGUMENT. */
export function checkOptionNames(verb: Verb, options: Readonly<Record<string, unknown>>): void {
  const known = ACTION_OPTIONS[verb];
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const has = known.length === 0 ? 'none' : known.join(', ');
    throw new RivuletError(
      'INVALID_ARGUMENT',
      `${verb} has no option ${JSON.stringify(name.slice(0, 40))}; its options: ${has}`,
    );
  }
}

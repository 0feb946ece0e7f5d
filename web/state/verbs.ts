/** What each action is called, what it asks for, and the words around its result. */
import type { Verb } from '../../src/console/api-types.ts';

export interface Field {
  /** Name in the options of the action. */
  readonly name: string;
  readonly label: string;
  readonly kind:
    | 'text'
    | 'milliseconds'
    | 'number'
    | 'time'
    | 'lines'
    | 'json'
    | 'body'
    | 'pairs'
    | 'numbers';
  readonly isNeeded?: boolean;
  /** It belongs to the target, not to the options. */
  readonly isTarget?: boolean;
  readonly hint?: string;
  readonly initial?: string;
}

export interface VerbText {
  /** On the button: "Redrive". */
  readonly label: string;
  /** What is counted. */
  readonly one: string;
  readonly done: string;
  readonly explains: string;
  readonly fields: readonly Field[];
  readonly danger?: boolean;
}

const FROM = 'new, earliest, an id (it begins after it), or a time in ms';
const REASON: Field = {
  name: 'reason',
  label: 'Reason, kept with the dead letter',
  kind: 'text',
  isNeeded: true,
};
const BODY: Field = { name: 'body', label: 'Body', kind: 'body' };
const HEADERS: Field = {
  name: 'headers',
  label: 'Headers',
  kind: 'pairs',
  hint: 'One on a line: name: value',
};
const KEY: Field = {
  name: 'key',
  label: 'Key',
  kind: 'text',
  hint: 'Messages of one key stay in order',
};
const message = (label: string, done: string, explains: string, more: Partial<VerbText> = {}) => ({
  label,
  one: 'message',
  done,
  explains,
  fields: [],
  ...more,
});
const instance = (label: string, done: string, explains: string, more: Partial<VerbText> = {}) => ({
  label,
  one: 'instance',
  done,
  explains,
  fields: [],
  ...more,
});

export const VERBS: Record<Verb, VerbText> = {
  'pending.deliver': message(
    'Deliver now',
    'delivered',
    'The group delivers it at once, before its time.',
  ),
  'pending.giveBack': message(
    'Give back',
    'given back',
    'It leaves its consumer and is delivered again.',
    {
      fields: [
        { name: 'delayMs', label: 'After', kind: 'milliseconds', initial: '0' },
        { name: 'reason', label: 'Reason, shown with the message', kind: 'text' },
      ],
    },
  ),
  'pending.claim': message('Claim for', 'claimed', 'Another consumer holds it from now on.', {
    fields: [{ name: 'consumer', label: 'Consumer', kind: 'text', isNeeded: true }],
  }),
  'pending.deadLetter': message(
    'Dead-letter',
    'moved to the dead letters',
    'It goes to the dead letters.',
    {
      fields: [REASON],
    },
  ),
  'pending.acknowledge': message(
    'Acknowledge',
    'acknowledged',
    'It counts as settled for this group, and no handler gets it again.',
    { danger: true },
  ),
  'dead.redrive': message(
    'Redrive',
    'redriven',
    'A copy goes to its topic, for the group that failed.',
  ),
  'dead.edit': message(
    'Edit',
    'published',
    'A changed copy is published, and this letter is deleted. Headers and key stay where none are given.',
    {
      fields: [BODY, HEADERS, KEY],
    },
  ),
  'dead.delete': message('Delete', 'deleted', 'It is gone from the dead letters.', {
    danger: true,
  }),
  'topic.publish': message('Publish', 'published', 'Every group of the topic gets it.', {
    fields: [BODY, HEADERS, KEY],
  }),
  'topic.schedule': message('Schedule', 'scheduled', 'It is published at that time.', {
    fields: [{ name: 'at', label: 'At', kind: 'time', isNeeded: true }, BODY, HEADERS, KEY],
  }),
  'topic.cancelScheduled': message('Cancel', 'cancelled', 'It is not published.'),
  'topic.retention': {
    label: 'Set retention',
    one: 'topic',
    done: 'changed',
    explains:
      'Messages beyond the limits are deleted at once. An empty field stays as it is; 0 is no limit.',
    fields: [
      { name: 'maxAgeMs', label: 'Keep for', kind: 'milliseconds' },
      { name: 'maxLength', label: 'Keep at most (messages)', kind: 'number' },
      { name: 'maxBytes', label: 'Keep at most (bytes)', kind: 'number' },
    ],
    danger: true,
  },
  'topic.delete': {
    label: 'Delete topic',
    one: 'topic',
    done: 'deleted',
    explains: 'Its messages, groups and policies are gone.',
    fields: [],
    danger: true,
  },
  'group.create': {
    label: 'Create a group',
    one: 'group',
    done: 'created',
    explains: 'It gets every message that follows its start.',
    fields: [
      { name: 'group', label: 'Name', kind: 'text', isNeeded: true, isTarget: true },
      { name: 'from', label: 'From', kind: 'text', initial: 'new', hint: FROM },
    ],
  },
  'group.replay': {
    label: 'Replay',
    one: 'group',
    done: 'replayed',
    explains: 'The group gets all messages after this place again. What it holds now is dropped.',
    fields: [
      {
        name: 'from',
        label: 'From',
        kind: 'text',
        isNeeded: true,
        initial: 'earliest',
        hint: FROM,
      },
    ],
    danger: true,
  },
  'group.policy': {
    label: 'Set policy',
    one: 'group',
    done: 'changed',
    explains:
      'How long a consumer may hold a message, and what follows. An empty field stays as it is.',
    fields: [
      { name: 'ackWaitMs', label: 'Deadline of a delivery', kind: 'milliseconds' },
      { name: 'maxDeliveries', label: 'Attempts', kind: 'number' },
      { name: 'deadLetter', label: 'Topic of the dead letters', kind: 'text' },
      {
        name: 'backoffMs',
        label: 'Waits between attempts: shortest, longest (ms)',
        kind: 'numbers',
        hint: '100, 60000: it doubles from one to the other',
      },
    ],
  },
  'group.delete': {
    label: 'Delete group',
    one: 'group',
    done: 'deleted',
    explains: 'Its position and its pending messages are gone.',
    fields: [],
    danger: true,
  },
  'workflow.signal': instance('Signal', 'signalled', 'The instance receives the signal.', {
    fields: [
      { name: 'name', label: 'Signal', kind: 'text', isNeeded: true },
      { name: 'value', label: 'Value (JSON)', kind: 'json', initial: 'null' },
    ],
  }),
  'workflow.cancel': instance('Cancel', 'cancelled', 'It ends, and its compensations run.', {
    danger: true,
  }),
  'workflow.pause': instance('Pause', 'paused', 'It does no further step until it is resumed.'),
  'workflow.resume': instance('Resume', 'resumed', 'It goes on where it was paused or parked.'),
  'workflow.retry': instance('Retry from a step', 'retried', 'It runs again from that step on.', {
    fields: [
      {
        name: 'from',
        label: 'Step',
        kind: 'text',
        hint: 'Its name or its number; empty: the step that failed',
      },
    ],
  }),
  'workflow.fork': instance(
    'Fork',
    'forked',
    'A new instance with the same history up to a step.',
    {
      fields: [
        {
          name: 'from',
          label: 'Up to step',
          kind: 'text',
          isNeeded: true,
          hint: 'Its name or its number',
        },
        { name: 'id', label: 'Id of the new instance', kind: 'text' },
      ],
    },
  ),
  'workflow.move': instance(
    'Move to a version',
    'moved',
    'It goes on with another version of the code.',
    {
      fields: [{ name: 'version', label: 'Version', kind: 'number', isNeeded: true }],
    },
  ),
  'service.call': { label: 'Call', one: 'call', done: 'made', explains: '', fields: [] },
  'service.dropNode': {
    label: 'Drop node',
    one: 'node',
    done: 'dropped',
    explains: 'It is taken out of the registry. A node that runs registers again.',
    fields: [],
    danger: true,
  },
  'server.killClient': {
    label: 'Close',
    one: 'connection',
    done: 'closed',
    explains: 'Its connection is closed. A client that runs connects again.',
    fields: [],
    danger: true,
  },
  'server.config': {
    label: 'Change a setting',
    one: 'setting',
    done: 'changed',
    explains: 'As CONFIG SET: until the server starts again.',
    fields: [
      { name: 'name', label: 'Setting', kind: 'text', isNeeded: true },
      { name: 'value', label: 'Value', kind: 'text', isNeeded: true },
    ],
  },
  'server.acl': {
    label: 'Change a user',
    one: 'user',
    done: 'changed',
    explains: 'As ACL SETUSER: the rules follow each other, separated by spaces.',
    fields: [
      { name: 'user', label: 'User', kind: 'text', isNeeded: true },
      { name: 'rules', label: 'Rules', kind: 'lines', isNeeded: true },
    ],
  },
};

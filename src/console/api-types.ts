/**
 * The shapes of the console's API under `/console/api/v1`: what the server sends and the browser reads.
 *
 * Holds types only and imports nothing, so that `web/` may import it.
 * Invariants: an id is text (`1795253507502-0`); an integer that can exceed 2^53 is text; a time is Unix ms;
 * a name that is no UTF-8, or begins with `~`, is `~<base64url of its bytes>` in JSON and in paths. `null`
 * says that the value is not known: the broker does not report it, or it was not measured yet.
 *
 * | route | reply |
 * | --- | --- |
 * | GET / | Root |
 * | POST session `Login` | Root, sets the cookie |
 * | DELETE session | 204 |
 * | GET overview | Overview |
 * | GET topics?q&sort&after&internal | TopicsPage |
 * | GET topics/{t} | TopicDetail |
 * | GET topics/{t}/entries?from&after&to&newest&where&decode&limit | EntriesPage |
 * | GET topics/{t}/entries/{id}?decode | EntryDetail |
 * | GET topics/{t}/entries/{id}/body | the bytes, as an attachment |
 * | GET topics/{t}/scheduled | ScheduledPage |
 * | GET topics/{t}/groups | GroupRow[] |
 * | GET topics/{t}/groups/{g} | GroupDetail |
 * | GET topics/{t}/groups/{g}/pending?after&consumer&minIdle | PendingPage |
 * | GET dead?topic&group&after | DeadPage |
 * | GET journey/{t}/{id} | Journey |
 * | GET traces/{id} | Trace; UNSUPPORTED where spans cannot be read |
 * | GET workflows?name&status&after | WorkflowsPage |
 * | GET workflows/{name}/{id}?after | WorkflowDetail |
 * | GET services | ServiceRow[] |
 * | GET services/{name} | ServiceDetail |
 * | POST call `CallRequest` | CallReply |
 * | GET server | ServerFacts |
 * | GET clients | ClientRow[] |
 * | GET slowlog | SlowRow[] |
 * | GET audit?before | AuditPage |
 * | GET openapi.json | the OpenAPI 3.1 description |
 * | POST actions/{verb} `ActionRequest` | ActionPlan (with dryRun), ActionOutcome (with a token) |
 * | GET jobs, jobs/{id} | Job[], Job |
 * | POST jobs/{id}/stop | Job |
 * | GET live?watch=overview,topic:orders | text/event-stream of LiveFrame |
 *
 * `from` and `to` are an id, Unix ms or a date, inclusive; `after` is an id, exclusive; `newest=1` goes
 * from new to old. Every error is an ApiError with the HTTP status of its code.
 */

// ---- Common

export interface ApiError {
  /** Of the one table of errors: `NOT_FOUND`, `PERMISSION_DENIED`, `AUTHENTICATION_FAILED`, ... */
  readonly code: string;
  readonly message: string;
  /** What to do about it; empty when there is nothing to add. */
  readonly hint: string;
}

/** Which of the ready-made sets of rules the user fulfils. */
export type Role = 'read' | 'operate' | 'admin';

/** What this broker, this console and this user's rights allow; a page hides or explains the rest. */
export interface Capabilities {
  readonly topics: boolean;
  /** Names are found by SCAN, on request only (`topics?scan=1`). */
  readonly scan: boolean;
  readonly rates: boolean;
  readonly browse: boolean;
  /** A position may be a time. */
  readonly browseByTime: boolean;
  readonly groups: boolean;
  /** Consumers of a group by their names. */
  readonly consumers: boolean;
  /** `entries`: each pending message; `counts`: numbers only; `none`. */
  readonly pending: 'entries' | 'counts' | 'none';
  /** Pending messages can be acted on. */
  readonly settle: boolean;
  readonly schedule: boolean;
  readonly dead: boolean;
  readonly redrive: boolean;
  /** Single dead letters can be chosen for a redrive, edited and deleted. */
  readonly redriveChosen: boolean;
  readonly publish: boolean;
  readonly deleteTopic: boolean;
  readonly services: boolean;
  readonly call: boolean;
  readonly workflows: boolean;
  readonly server: boolean;
  readonly clients: boolean;
  readonly slowlog: boolean;
  readonly audit: boolean;
  /** Facts of the log are there for journeys. */
  readonly journey: boolean;
  /** Spans that services record can be read. */
  readonly spans: boolean;
  /** Why something is false, by its name above: one sentence. */
  readonly missing: Readonly<Record<string, string>>;
}

export interface Root {
  readonly version: string;
  /** Name of the user; empty on a console without users. */
  readonly user: string;
  /** True when a login is possible, so a page offers `log out`. */
  readonly login: boolean;
  readonly roles: readonly Role[];
  /** No action is accepted by this console, whatever the user's rights. */
  readonly readOnly: boolean;
  readonly broker: { readonly kind: string; readonly address: string };
  readonly registry: string | null;
  readonly capabilities: Capabilities;
  /** Verbs of actions that this user may use. */
  readonly verbs: readonly Verb[];
  /** Paths that are masked for this user: `json.card`, `header.authorization`. */
  readonly masked: readonly string[];
  /** `--trace-url`, with `{traceId}` in it. */
  readonly traceUrl: string | null;
  /** Unix ms of the server. */
  readonly now: number;
}

export interface Login {
  readonly user: string;
  readonly password: string;
}

/** Numbers over time. `values[name][i]` is of `from + i * stepMs`; null = not measured. */
export interface Series {
  readonly from: number;
  readonly stepMs: number;
  readonly values: Readonly<Record<string, readonly (number | null)[]>>;
}

// ---- Overview

export interface Overview {
  readonly at: number;
  readonly ready: boolean;
  /** Why it is not ready. */
  readonly reason: string | null;
  readonly uptimeMs: number | null;
  readonly totals: {
    readonly topics: number | null;
    readonly groups: number | null;
    readonly entries: number | null;
    readonly pending: number | null;
    readonly dead: number | null;
    readonly parked: number | null;
    readonly clients: number | null;
    readonly bytes: number | null;
  };
  /** Each second. */
  readonly rates: {
    readonly published: number | null;
    readonly delivered: number | null;
    readonly settled: number | null;
    readonly bytesIn: number | null;
    readonly bytesOut: number | null;
    readonly commands: number | null;
  };
  readonly oldestPending: {
    readonly topic: string;
    readonly group: string;
    readonly id: string;
    readonly idleMs: number;
  } | null;
  /** The last 10 minutes, one value a second: the names of `rates`, and `loopDelayMs`. */
  readonly series: Series;
  readonly top: {
    readonly lag: readonly TopicRow[];
    readonly rate: readonly TopicRow[];
    readonly bytes: readonly TopicRow[];
  };
  /** Newest first. */
  readonly troubles: readonly { readonly at: number; readonly text: string }[];
}

// ---- Topics

export type TopicSort = 'name' | 'rate' | 'lag' | 'bytes' | 'length' | 'oldest' | 'pending';

export interface TopicRow {
  readonly name: string;
  readonly length: number;
  /** Messages published each second, of the last 5 s. */
  readonly rate: number | null;
  /** The longest lag of its groups. */
  readonly lag: number | null;
  readonly pending: number | null;
  readonly groups: number;
  /** In memory. */
  readonly bytes: number | null;
  readonly bytesOnDisk: number | null;
  /** Time of the oldest message. */
  readonly oldestAt: number | null;
  readonly newestAt: number | null;
  /** It holds the dead letters of this topic. */
  readonly deadOf: string | null;
}

export interface TopicsPage {
  readonly at: number;
  /** At most 100. */
  readonly topics: readonly TopicRow[];
  /** All that the user may see. */
  readonly total: number;
  /** How many of them have `q` in their name. */
  readonly matched: number;
  /** Rivulet's own topics (spans, audit, journals) that are left out; `internal=1` shows them. */
  readonly hidden: number;
  /** The value of `after` for the next page. */
  readonly next: string | null;
  /** False while names are still gathered: the numbers will rise. */
  readonly complete: boolean;
}

export interface Retention {
  readonly maxAgeMs: number | null;
  readonly maxBytes: number | null;
  readonly maxLength: number | null;
}

export interface TopicDetail extends TopicRow {
  readonly at: number;
  readonly firstId: string | null;
  readonly lastId: string | null;
  /** All that were ever published; text. */
  readonly entriesAdded: string | null;
  readonly retention: Retention | null;
  readonly scheduled: number | null;
  readonly groupRows: readonly GroupRow[];
  /** The topic of its dead letters, where there is one, and how many. */
  readonly dead: { readonly topic: string; readonly length: number } | null;
  /** `rate`, and `lag:<group>`; 10 minutes of seconds. Absent until the topic was looked at. */
  readonly seconds: Series | null;
  /** The same, 24 hours of minutes. */
  readonly minutes: Series | null;
}

export interface ScheduledRow {
  readonly number: string;
  readonly dueAt: number;
  readonly bytes: number | null;
  readonly preview: Decoded | null;
}

export interface ScheduledPage {
  readonly total: number;
  readonly entries: readonly ScheduledRow[];
}

// ---- Browse

export type Decoder = 'auto' | 'json' | 'msgpack' | 'text' | 'hex' | 'proto';

/** A body, or the first bytes of it, in a form to be shown. Always text: never markup. */
export interface Decoded {
  /** What it was decoded as. */
  readonly as: 'json' | 'msgpack' | 'text' | 'hex' | 'proto' | 'empty';
  readonly text: string;
  /** `text` holds less than the body. */
  readonly cut: boolean;
  /** Why the decoder that was asked for failed; `text` then is hex. */
  readonly error: string | null;
  /** Some values were masked. */
  readonly masked: boolean;
}

export interface EntryRow {
  readonly id: string;
  /** Time of the id. */
  readonly at: number | null;
  /** Of all fields. */
  readonly bytes: number;
  readonly bodyBytes: number;
  readonly key: string | null;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Of the first 256 bytes. */
  readonly preview: Decoded;
  readonly contentType: string | null;
  readonly traceId: string | null;
}

export interface EntriesPage {
  /** In the order asked for: rising ids, or falling ones with `newest`. */
  readonly entries: readonly EntryRow[];
  readonly firstId: string | null;
  readonly lastId: string | null;
  /** When the first and the last were stored. */
  readonly firstAt: number | null;
  readonly lastAt: number | null;
  readonly length: number;
  /** The value of `after` that goes on in the same direction; null at the end. */
  readonly next: string | null;
  /** With `where`: how many entries were looked at, and up to which. */
  readonly scanned: number;
  readonly scannedTo: string | null;
  /** Why it ended: the page is full, the topic has no more, or a limit of one request. */
  readonly stopped: 'page' | 'end' | 'entries' | 'bytes' | 'time';
}

export interface EntryDetail extends EntryRow {
  readonly topic: string;
  /** The whole body; null above 1 MiB: download it. */
  readonly body: Decoded | null;
  /** Where it came from, when it is a dead letter. */
  readonly dead: DeadOrigin | null;
  readonly editedFrom: string | null;
  readonly redrivenFrom: string | null;
  readonly cause: string | null;
  readonly previousId: string | null;
  readonly nextId: string | null;
}

// ---- Groups

export interface GroupPolicy {
  readonly ackWaitMs: number | null;
  readonly maxDeliveries: number | null;
  readonly deadLetter: string | null;
  readonly backoffMs: readonly number[];
}

export interface GroupRow {
  readonly name: string;
  /** Null: the broker does not tell. */
  readonly consumers: number | null;
  readonly pending: number;
  readonly lag: number | null;
  /** Empty: the broker does not tell. */
  readonly lastDeliveredId: string;
  /** Up to here all that was delivered is settled; absent: the broker tells each pending one, or nothing. */
  readonly settledUpTo?: string;
  readonly policy: GroupPolicy | null;
}

export interface ConsumerRow {
  readonly name: string;
  readonly pending: number;
  readonly idleMs: number;
  /** Since its last successful read; null = it never had one. */
  readonly inactiveMs: number | null;
}

export interface GroupDetail extends GroupRow {
  readonly topic: string;
  readonly at: number;
  readonly consumerRows: readonly ConsumerRow[];
  readonly oldestPendingMs: number | null;
  /** Pending ones that were delivered more than once, where the broker counts them. */
  readonly redelivered?: number;
}

export interface PendingRow {
  readonly id: string;
  /** Empty: it was given back and waits for its next delivery. */
  readonly consumer: string;
  readonly idleMs: number;
  readonly attempts: number;
  /** Until it is delivered again; null = no policy says so. */
  readonly dueInMs: number | null;
  /** Why it was given back last. */
  readonly reason: string | null;
}

export interface PendingPage {
  readonly entries: readonly PendingRow[];
  readonly total: number;
  readonly next: string | null;
}

// ---- Dead letters

export interface DeadOrigin {
  readonly topic: string;
  readonly group: string;
  readonly id: string;
  readonly reason: string;
  readonly attempts: number | null;
  readonly at: number | null;
}

export interface DeadRow {
  /** Topic that holds it, and its id there. */
  readonly topic: string;
  readonly id: string;
  readonly origin: DeadOrigin;
  readonly bytes: number;
  readonly preview: Decoded;
}

export interface DeadPage {
  readonly entries: readonly DeadRow[];
  readonly next: string | null;
  /** Of the entries that were looked at, most frequent first. */
  readonly reasons: readonly {
    readonly reason: string;
    readonly count: number;
    readonly topics: readonly string[];
  }[];
  readonly topics: readonly {
    readonly topic: string;
    readonly of: string;
    readonly length: number;
  }[];
  readonly scanned: number;
}

// ---- Journey

export interface JourneyGroup {
  readonly group: string;
  /** `unknown`: it was delivered, and the broker does not tell whether it is settled. */
  readonly state: 'waiting' | 'pending' | 'settled' | 'dead' | 'unknown';
  /** waiting: how many messages are before it. */
  readonly before: number | null;
  readonly pending: PendingRow | null;
  readonly dead: DeadRow | null;
  readonly spans: readonly SpanRow[];
}

export interface SpanRow {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string | null;
  readonly kind: 'publish' | 'deliver' | 'settle' | 'call' | 'serve' | 'step' | 'other';
  /** `orders`, `payments.Cards.Charge`, `order/order-17 charge`. */
  readonly name: string;
  readonly at: number;
  readonly ms: number;
  readonly service: string;
  readonly node: string;
  readonly group: string | null;
  readonly messageId: string | null;
  readonly attempt: number | null;
  readonly error: string | null;
  /** How many of its ancestors are in the same list; the list is in the order of the tree. */
  readonly depth: number;
}

export interface Journey {
  readonly topic: string;
  readonly id: string;
  readonly at: number | null;
  /** null: the message is deleted; what is known of it remains. */
  readonly entry: EntryDetail | null;
  readonly traceId: string | null;
  readonly groups: readonly JourneyGroup[];
  /** Copies: redriven or edited from this one, and where this one came from. */
  readonly copies: readonly {
    readonly kind: 'redriven' | 'edited' | 'origin';
    readonly topic: string;
    readonly id: string;
  }[];
  readonly workflows: readonly {
    readonly name: string;
    readonly id: string;
    readonly status: string;
    readonly waitsFor: string | null;
  }[];
  /** Spans of its trace that are about none of the groups. */
  readonly spans: readonly SpanRow[];
  /** What is not shown and why. */
  readonly missing: readonly string[];
}

export interface Trace {
  readonly traceId: string;
  readonly spans: readonly SpanRow[];
  /** Messages that carry the trace. */
  readonly messages: readonly { readonly topic: string; readonly id: string }[];
  readonly missing: readonly string[];
}

// ---- Workflows

export interface WorkflowCounts {
  readonly name: string;
  readonly running: number;
  readonly parked: number;
  readonly done: number;
  readonly oldestParkedAt: number | null;
  /** Versions whose tasks no worker takes. */
  readonly waiting: readonly { readonly version: number; readonly tasks: number }[];
}

export interface WorkflowRow {
  readonly name: string;
  readonly id: string;
  readonly version: number;
  readonly status: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly reason: string | null;
  /** The result as one line of JSON, or how many bytes it has; null where there is none. */
  readonly resultText: string | null;
  /** It is a schedule that is parked, and `id` its name. */
  readonly isSchedule: boolean;
}

export interface WorkflowsPage {
  readonly counts: readonly WorkflowCounts[];
  readonly instances: readonly WorkflowRow[];
  /** The value of `after` for the next page. A page of a rare status may be short and have a next one. */
  readonly next: string | null;
}

export interface WorkflowEvent {
  /** Id of the record in the journal. */
  readonly id: string;
  readonly at: number;
  /** `start`, `step`, `retry`, `wait`, `signal`, `message`, `call`, `child`, `parked`, `end`, ... */
  readonly kind: string;
  readonly name: string;
  /** One line. */
  readonly text: string;
  /** The record as JSON, masked as bodies are. */
  readonly record: string;
  /** The message or instance that the record names. */
  readonly link: string | null;
}

export interface WorkflowDetail extends WorkflowRow {
  readonly events: readonly WorkflowEvent[];
  readonly total: number | null;
  /** The value of `after` for the next page of events. */
  readonly next: string | null;
  readonly waitsFor: string | null;
  readonly input: Decoded | null;
  readonly result: Decoded | null;
  readonly parked: { readonly reason: string; readonly difference: string | null } | null;
  /** Verbs that this state allows. */
  readonly verbs: readonly Verb[];
}

// ---- Services

export interface ServiceRow {
  readonly name: string;
  readonly versions: readonly string[];
  readonly nodes: number;
  readonly endpoints: number;
}

export interface ValueShape {
  readonly name: string;
  readonly type: string;
  readonly values: readonly ValueShape[];
}

export interface ServiceDetail {
  readonly name: string;
  readonly versions: readonly {
    readonly version: string;
    readonly metadata: Readonly<Record<string, string>>;
    readonly endpoints: readonly {
      readonly name: string;
      readonly request: ValueShape | null;
      readonly response: ValueShape | null;
      readonly stream: boolean;
      readonly metadata: Readonly<Record<string, string>>;
    }[];
    readonly nodes: readonly {
      readonly id: string;
      readonly address: string;
      readonly metadata: Readonly<Record<string, string>>;
      readonly lastSeenAt: number | null;
    }[];
  }[];
}

export interface CallRequest {
  readonly service: string;
  readonly endpoint: string;
  /** JSON value. */
  readonly request: unknown;
  readonly metadata?: Readonly<Record<string, string>>;
  /** @default 5000 */
  readonly deadlineMs?: number;
  /** `host:port` of a node; default: the selector chooses. */
  readonly node?: string;
  /** Take replies of a stream, at most 100. */
  readonly stream?: boolean;
}

export interface CallReply {
  readonly ok: boolean;
  /** JSON values: one, or those of a stream. */
  readonly replies: readonly unknown[];
  readonly cut: boolean;
  readonly ms: number;
  readonly error: { readonly code: string; readonly message: string } | null;
}

// ---- Server

export interface ServerFacts {
  readonly at: number;
  /** Sections of facts as name and value, as INFO has them. */
  readonly sections: readonly {
    readonly title: string;
    readonly facts: readonly (readonly [name: string, value: string])[];
  }[];
  readonly loopDelayMs: { readonly p50: number; readonly p99: number } | null;
  readonly syncMs: { readonly p50: number; readonly p99: number } | null;
  readonly config: readonly (readonly [name: string, value: string])[];
}

export interface ClientRow {
  readonly id: string;
  readonly address: string;
  readonly name: string;
  readonly user: string;
  readonly ageMs: number;
  readonly idleMs: number;
  readonly command: string;
}

export interface SlowRow {
  readonly id: string;
  readonly at: number;
  readonly micros: number;
  readonly command: string;
  readonly client: string;
}

export interface AuditRow {
  readonly id: string;
  readonly at: number;
  readonly user: string;
  readonly address: string;
  readonly verb: string;
  readonly target: string;
  readonly count: number | null;
  readonly reason: string;
  /** `intent`, or how the action of that intent ended; `refused` has no intent. */
  readonly phase: 'intent' | 'done' | 'failed' | 'refused';
  /** Equal in the intent and the outcome of one action. */
  readonly action: string;
  /** Why it failed or was refused. */
  readonly error: string;
}

export interface AuditPage {
  /** Newest first. */
  readonly entries: readonly AuditRow[];
  readonly next: string | null;
}

// ---- Actions

export type Verb =
  | 'pending.deliver'
  | 'pending.giveBack'
  | 'pending.claim'
  | 'pending.deadLetter'
  | 'pending.acknowledge'
  | 'dead.redrive'
  | 'dead.edit'
  | 'dead.delete'
  | 'topic.publish'
  | 'topic.schedule'
  | 'topic.cancelScheduled'
  | 'topic.retention'
  | 'topic.delete'
  | 'group.create'
  | 'group.replay'
  | 'group.policy'
  | 'group.delete'
  | 'workflow.signal'
  | 'workflow.cancel'
  | 'workflow.pause'
  | 'workflow.resume'
  | 'workflow.retry'
  | 'workflow.fork'
  | 'workflow.move'
  | 'service.call'
  | 'service.dropNode'
  | 'server.killClient'
  | 'server.config'
  | 'server.acl';

/** What an action is about; which parts it needs depends on the verb. */
export interface ActionTarget {
  readonly topic?: string;
  readonly group?: string;
  /** Messages, of one topic or group; or `all` for every one that `where` lets through. */
  readonly ids?: readonly string[];
  readonly all?: boolean;
  readonly where?: string;
  readonly workflow?: string;
  readonly instance?: string;
  readonly service?: string;
  readonly node?: string;
  readonly client?: string;
  readonly number?: string;
}

/** First call: `dryRun: true` with target and options. Second: `token` and reason. */
export interface ActionRequest {
  readonly dryRun?: boolean;
  readonly target?: ActionTarget;
  /** Of the verb: `delayMs`, `consumer`, `reason`, `body`, `headers`, `key`, `at`, `from`, ... */
  readonly options?: Readonly<Record<string, unknown>>;
  readonly token?: string;
  readonly reason?: string;
  /** The name that `confirm` asked for. */
  readonly confirm?: string;
}

export interface ActionPlan {
  readonly token: string;
  readonly expiresAt: number;
  readonly verb: Verb;
  readonly count: number;
  /** The first five, one line each. */
  readonly first: readonly string[];
  readonly impossible: readonly { readonly what: string; readonly why: string }[];
  /** The name that has to be typed; null = none. */
  readonly confirm: string | null;
  /** It can be undone by another action. */
  readonly reversible: boolean;
  readonly summary: string;
}

export interface ActionOutcome {
  readonly done: number;
  readonly failed: readonly { readonly what: string; readonly why: string }[];
  /** Ids of what was made: published messages, redriven ones. */
  readonly made: readonly string[];
  /** Set when it goes on in the background. */
  readonly job: Job | null;
}

export interface Job {
  readonly id: string;
  readonly verb: Verb;
  readonly summary: string;
  readonly user: string;
  readonly state: 'running' | 'done' | 'failed' | 'stopped';
  readonly total: number;
  readonly done: number;
  /** How many failed; the first 100 are listed. */
  readonly failed: number;
  readonly failures: readonly { readonly what: string; readonly why: string }[];
  readonly startedAt: number;
  readonly endedAt: number | null;
}

// ---- Live

/**
 * One server-sent event, `event: frame`, at most one a second. Watches: `overview`, `topics:<query string
 * of GET topics>`, `topic:<name>`, `group:<topic>/<group>`, `tail:<topic>`, `dead`, `workflows`, `jobs`,
 * `services`, `server`; names percent-encoded. `parts` has only what changed since the last frame, and
 * series (`series`, `seconds`, `minutes`) of a frame that is no snapshot hold only their newest points.
 */
export interface LiveFrame {
  readonly at: number;
  /** True for the first frame and after a jam: every watch is in `parts`. */
  readonly snapshot: boolean;
  /** By the watch as it was given: the reply of the route that it names, or an ApiError. */
  readonly parts: Readonly<Record<string, LivePart>>;
}

export type LivePart =
  | { readonly kind: 'value'; readonly value: unknown }
  | {
      readonly kind: 'append';
      /** Oldest first, at most 100. */
      readonly entries: readonly EntryRow[];
      /** Above 0: there were more than 100 since the last frame, and the oldest of them are not here. */
      readonly skipped: number;
      /** Id of the newest message. */
      readonly position: string;
    }
  | { readonly kind: 'error'; readonly error: ApiError };

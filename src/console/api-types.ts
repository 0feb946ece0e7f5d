/**
 * The shapes of the console's API under `/console/api/v1`: what the server sends and the browser reads.
 *
 * Holds types only, one file in `api/` for each kind of thing, and imports nothing else, so that `web/` may
 * import it.
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
export type * from './api/actions.ts';
export type * from './api/audit.ts';
export type * from './api/dead-letters.ts';
export type * from './api/decoded.ts';
export type * from './api/entries.ts';
export type * from './api/errors.ts';
export type * from './api/groups.ts';
export type * from './api/journey.ts';
export type * from './api/live.ts';
export type * from './api/overview.ts';
export type * from './api/series.ts';
export type * from './api/server.ts';
export type * from './api/services.ts';
export type * from './api/session.ts';
export type * from './api/topics.ts';
export type * from './api/workflows.ts';

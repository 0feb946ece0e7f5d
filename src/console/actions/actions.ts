/**
 * Actions: a dry run that gives a token for exactly what it showed, then the token with a reason.
 *
 *   POST actions/dead.redrive {dryRun, target, options} -> count, first five, what cannot be done, token
 *   POST actions/dead.redrive {token, reason, confirm}  -> outcome, or a job above 1000 things
 *
 * Invariants: nothing happens without a token of the same user and verb that is at most 5 minutes old,
 * and each token works once; the plans of one user hold at most 32 MiB, those of all 256 MiB; the audit has an intent before the first change and an outcome after the
 * last, and where the intent cannot be stored nothing happens; rights are checked again by every command.
 */
import { randomBytes } from 'node:crypto';
import type { Audit, AuditedAction } from '../../broker/audit.ts';
import { RivuletError } from '../../errors.ts';
import type { ActionOutcome, ActionPlan, ActionRequest, Role, Verb } from '../api-types.ts';
import type { Call } from '../http/router.ts';
import type { Reading } from '../routes/reading.ts';
import type { ConsoleSource, Viewer } from '../sources/source.ts';
import { checkOptionNames } from './action-options.ts';
import { deadActions } from './dead-actions.ts';
import { Jobs, runItems } from './jobs.ts';
import { pendingActions } from './pending-actions.ts';
import type { ActionKind, Plan } from './plan.ts';
import { serverActions } from './server-actions.ts';
import { groupActions, topicActions } from './topic-actions.ts';

const TOKEN_MS = 5 * 60 * 1000;
const MOST_TOKENS_OF_USER = 20;
const MOST_TOKENS = 200;
const MOST_BYTES_OF_USER = 32 * 1024 * 1024;
const MOST_BYTES = 256 * 1024 * 1024;
/** Of an item of a plan: an id and what holds it. */
const ITEM_BYTES = 64;
/** More things than this are a job. */
const AT_ONCE = 1000;
const SHOWN = 5;
const LONGEST_REASON = 500;
const CLOSE_MS = 5000;

interface Token {
  readonly verb: Verb;
  readonly user: string;
  readonly plan: Plan;
  /** About what the plan holds in memory. */
  readonly bytes: number;
  /** Monotonic ms. */
  readonly endsAt: number;
}

export interface ActionsSetup {
  readonly source: ConsoleSource;
  readonly reading: Reading;
  readonly isReadOnly: boolean;
  readonly audit: Audit;
  readonly more?: readonly ActionKind[];
}

export class Actions {
  readonly jobs = new Jobs();
  readonly #setup: ActionsSetup;
  readonly #kinds: ReadonlyMap<Verb, ActionKind>;
  readonly #tokens = new Map<string, Token>();
  /** Actions whose outcome is not in the audit yet. */
  readonly #recording = new Set<Promise<unknown>>();

  constructor(setup: ActionsSetup) {
    this.#setup = setup;
    const kinds = [
      ...pendingActions,
      ...deadActions,
      ...topicActions,
      ...groupActions,
      ...serverActions,
      ...(setup.more ?? []),
    ];
    this.#kinds = new Map(kinds.map((kind) => [kind.verb, kind]));
  }

  /** What this viewer may do at all. */
  verbs(viewer: Viewer, roles: readonly Role[]): Verb[] {
    if (this.#setup.isReadOnly) return [];
    return [...this.#kinds.values()]
      .filter((kind) => this.#isOffered(kind, viewer, roles))
      .map(({ verb }) => verb);
  }

  /** Stops the jobs; resolves when the outcome of each action is stored, after CLOSE_MS at the latest. */
  async close(): Promise<void> {
    this.jobs.close();
    let timer!: NodeJS.Timeout;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, CLOSE_MS);
    });
    await Promise.race([Promise.allSettled(this.#recording), late]);
    clearTimeout(timer);
  }

  #record<T>(action: AuditedAction, work: () => Promise<T>): Promise<T> {
    const recording = this.#setup.audit.record(action, work);
    this.#recording.add(recording);
    const ended = () => this.#recording.delete(recording);
    recording.then(ended, ended);
    return recording;
  }

  async act(call: Call): Promise<ActionPlan | ActionOutcome> {
    const kind = this.#kinds.get(call.params.verb as Verb);
    if (kind === undefined) throw new RivuletError('NOT_FOUND', 'there is no such action');
    if (this.#setup.isReadOnly) {
      throw new RivuletError('PERMISSION_DENIED', 'this console only shows; it changes nothing');
    }
    const request = requestOf(call.body);
    if (request.token !== undefined) return this.#run(kind, call, request);
    if (request.dryRun === true) return this.#plan(kind, call, request);
    throw new RivuletError(
      'INVALID_ARGUMENT',
      'an action needs dryRun: true first, then its token',
    );
  }

  #isOffered(kind: ActionKind, viewer: Viewer, roles: readonly Role[]): boolean {
    const { capabilities } = this.#setup.source;
    if (kind.needs !== null && capabilities[kind.needs] === false) return false;
    if (kind.role !== undefined && !roles.includes(kind.role)) return false;
    if (viewer.commands === null) return kind.byCommands !== true;
    return viewer.mayAnyKey(...kind.command);
  }

  async #plan(kind: ActionKind, call: Call, request: ActionRequest): Promise<ActionPlan> {
    const { account, viewer } = call;
    const { source, reading } = this.#setup;
    const { verb } = kind;
    this.#checkOffered(kind, call);
    checkOptionNames(verb, request.options ?? {});
    const plan = await kind.plan({
      source,
      viewer,
      roles: account.roles,
      setup: reading.setupFor(account),
      target: request.target ?? {},
      options: request.options ?? {},
    });
    const token = this.#keep({
      verb,
      user: viewer.user,
      plan,
      bytes: (plan.bytes ?? 0) + plan.items.length * ITEM_BYTES,
      endsAt: performance.now() + TOKEN_MS,
    });
    return {
      token,
      expiresAt: Date.now() + TOKEN_MS,
      verb,
      count: plan.items.length,
      first: (plan.first ?? plan.items).slice(0, SHOWN),
      impossible: plan.impossible ?? [],
      confirm: plan.confirm ?? null,
      reversible: plan.reversible,
      summary: plan.summary,
    };
  }

  #checkOffered(kind: ActionKind, { account, viewer }: Call): void {
    const { capabilities } = this.#setup.source;
    if (kind.needs !== null && capabilities[kind.needs] === false) {
      const why = capabilities.missing[kind.needs] ?? 'this broker cannot do it';
      throw new RivuletError('UNSUPPORTED', why);
    }
    if (this.#isOffered(kind, viewer, account.roles)) return;
    if (viewer.commands === null && kind.byCommands) {
      throw new RivuletError('UNSUPPORTED', 'this broker takes no commands');
    }
    throw new RivuletError('PERMISSION_DENIED', `you may not do ${kind.verb}`);
  }

  async #run(kind: ActionKind, call: Call, request: ActionRequest): Promise<ActionOutcome> {
    const { verb } = kind;
    const { viewer } = call;
    this.#checkOffered(kind, call);
    const reason = typeof request.reason === 'string' ? request.reason.trim() : '';
    if (reason.length > LONGEST_REASON) {
      throw new RivuletError(
        'INVALID_ARGUMENT',
        `a reason has at most ${LONGEST_REASON} characters`,
      );
    }
    // After the checks, so that a request that is refused leaves its token.
    const { plan } = this.#take(String(request.token), verb, viewer.user, request.confirm);
    const action: AuditedAction = {
      user: viewer.user,
      address: viewer.address,
      verb,
      target: plan.target,
      count: plan.items.length,
      reason,
    };
    if (plan.items.length <= AT_ONCE) {
      const { done, failed, made } = await this.#record(action, async () => {
        const outcome = await runItems(plan, plan.items);
        if (outcome.done === 0 && outcome.failures > 0) throw new AllFailed(outcome);
        return outcome;
      }).catch((error: unknown) => {
        if (error instanceof AllFailed) return error.outcome;
        throw error;
      });
      return { done, failed, made, job: null };
    }
    return { done: 0, failed: [], made: [], job: await this.#startJob(action, plan, verb) };
  }

  /** Resolves once the intent is stored and the job runs. */
  #startJob(action: AuditedAction, plan: Plan, verb: Verb) {
    return new Promise<ActionOutcome['job']>((resolve, reject) => {
      this.#record(
        action,
        () =>
          new Promise<void>((done, failed) => {
            resolve(
              this.jobs.start(plan, verb, action.user, async (job) => {
                const text = `${job.done} of ${job.total} done, ${job.failed} failed`;
                if (job.state === 'done' && job.failed === 0) done();
                else failed(new Error(`${job.state}: ${text}`));
              }),
            );
          }),
      )
        // The outcome is in the job and in the audit.
        .catch(reject);
    });
  }

  /** Forgets plans whose time is over. */
  prune(): void {
    const now = performance.now();
    for (const [id, { endsAt }] of this.#tokens) if (endsAt <= now) this.#tokens.delete(id);
  }

  #keep(token: Token): string {
    this.prune();
    const own = [...this.#tokens].filter(([, { user }]) => user === token.user);
    let held = own.reduce((sum, [, { bytes }]) => sum + bytes, token.bytes);
    // A user's oldest plans make room for the new one.
    while (own.length >= MOST_TOKENS_OF_USER || (held > MOST_BYTES_OF_USER && own.length > 0)) {
      const [id, { bytes }] = own.shift()!;
      this.#tokens.delete(id);
      held -= bytes;
    }
    let all = token.bytes;
    for (const { bytes } of this.#tokens.values()) all += bytes;
    if (this.#tokens.size >= MOST_TOKENS || all > MOST_BYTES) {
      throw new RivuletError('LIMIT_EXCEEDED', 'too many actions wait for their second step');
    }
    const id = randomBytes(24).toString('base64url');
    this.#tokens.set(id, token);
    return id;
  }

  #take(id: string, verb: Verb, user: string, confirm: string | undefined): Token {
    const token = this.#tokens.get(id);
    if (token === undefined || token.endsAt <= performance.now()) {
      throw new RivuletError('FAILED_PRECONDITION', 'the token is used or too old: plan it again');
    }
    if (token.verb !== verb || token.user !== user) {
      throw new RivuletError('PERMISSION_DENIED', 'the token is of another action or another user');
    }
    const { confirm: name } = token.plan;
    if (name !== undefined && confirm !== name) {
      throw new RivuletError('FAILED_PRECONDITION', `type ${JSON.stringify(name)} to confirm`);
    }
    this.#tokens.delete(id);
    return token;
  }
}

class AllFailed extends Error {
  readonly outcome: Awaited<ReturnType<typeof runItems>>;

  constructor(outcome: Awaited<ReturnType<typeof runItems>>) {
    super(outcome.failed[0]?.why ?? 'nothing was done');
    this.outcome = outcome;
  }
}

function requestOf(body: unknown): ActionRequest {
  const isObject = (value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isObject(body)) throw new RivuletError('INVALID_ARGUMENT', 'the body is a JSON object');
  const { target, options, token, reason, confirm } = body as ActionRequest;
  for (const [name, value] of Object.entries({ target, options })) {
    if (value !== undefined && !isObject(value)) {
      throw new RivuletError('INVALID_ARGUMENT', `${name} is an object`);
    }
  }
  for (const [name, value] of Object.entries({ ...target, token, reason, confirm })) {
    if (value === undefined || name === 'ids' || name === 'all' || typeof value === 'string')
      continue;
    throw new RivuletError('INVALID_ARGUMENT', `${name} is a text`);
  }
  return body as ActionRequest;
}

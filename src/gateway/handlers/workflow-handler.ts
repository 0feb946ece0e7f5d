/**
 * Workflows over HTTP: started, signalled and looked at, where the option `workflows` names them.
 *
 *   POST /_/workflows/NAME                     starts one; the body is its input
 *   GET  /_/workflows/NAME/ID                  its status, and its result once it has ended
 *   POST /_/workflows/NAME/ID/signals/SIGNAL   sends a signal; the body is its value
 *
 * Invariants: 202 is sent when the start or the signal is stored; the same `Idempotency-Key` starts one
 * instance and sends one signal, and another body under a used key is 422: of a start at another gateway
 * too, of a signal at this one; names that were not given to the gateway are 404. `Prefer: wait=10`
 * waits that many seconds, at most the request's own time, for the result. Cost: one commit.
 */
import type { Broker } from '../../broker/broker.ts';
import { compilePattern } from '../../broker/topics/topics.ts';
import type { RivuletError } from '../../errors.ts';
import type { WorkflowHandle } from '../../workflow/handle.ts';
import { type AnyWorkflow, isWorkflow } from '../../workflow/workflow.ts';
import { type Workflows, workflows } from '../../workflow/workflows.ts';
import { mustBeSmall } from '../body/json-check.ts';
import { bodyOf, type Exchange, headerOf, mustBeText } from '../exchange.ts';
import { HttpError } from '../http-error.ts';
import { plainSegments } from '../routing/names.ts';
import { digest, reused, UsedKeys } from './used-keys.ts';

export const WORKFLOWS = '/_/workflows/';

export class WorkflowHandler {
  readonly #broker: () => Promise<Broker>;
  readonly #definitions: ReadonlyMap<string, AnyWorkflow>;
  readonly #isShown: (name: string) => boolean;
  readonly #keys: UsedKeys;
  #opening: Promise<Workflows> | null = null;

  /** `shown` are definitions, and names or patterns such as `order.*`. */
  constructor(
    broker: () => Promise<Broker>,
    shown: readonly (string | AnyWorkflow)[],
    maxKeys: number,
  ) {
    this.#broker = broker;
    this.#keys = new UsedKeys(maxKeys);
    const definitions = shown.filter((each) => isWorkflow(each));
    this.#definitions = new Map(definitions.map((each) => [each.name, each]));
    const patterns = shown.filter((each) => typeof each === 'string').map(compilePattern);
    this.#isShown = (name) =>
      this.#definitions.has(name) || patterns.some((matches) => matches(name));
  }

  async handle(exchange: Exchange): Promise<void> {
    const segments = plainSegments(exchange.path.slice(WORKFLOWS.length));
    if (segments === null) {
      throw new HttpError(400, 'the path holds what another server could read differently');
    }
    const [name = '', id, signals, signal, ...more] = segments;
    if (!this.#isShown(name) || more.length > 0) throw nothing();
    if (id === undefined) {
      mustBe('POST', exchange);
      await this.#start(exchange, name);
    } else if (signals === undefined) {
      mustBe('GET', exchange);
      await this.#show(exchange, (await this.#open()).get(name, id));
    } else if (signals === 'signals' && signal !== undefined) {
      mustBe('POST', exchange);
      await this.#signal(exchange, (await this.#open()).get(name, id), signal);
    } else throw nothing();
  }

  async close(): Promise<void> {
    await (await this.#opening?.catch(() => null))?.close();
  }

  async #start(exchange: Exchange, name: string): Promise<void> {
    const { body, value: input } = await jsonBody(exchange);
    const key = headerOf(exchange.request, 'idempotency-key');
    // It is the instance's id, and so a part of the path of its page.
    if (key !== '' && plainSegments(encodeURIComponent(key))?.length !== 1) {
      const text =
        'Idempotency-Key may not contain "/", "\\" or control characters, or be "." or ".."';
      throw new HttpError(400, text);
    }
    const flows = await this.#open();
    const used = `${name} ${key}`;
    if (key !== '') this.#keys.isStored(used, digest(body));
    const options = key === '' ? {} : { id: key, onExisting: 'reject' as const };
    const definition = this.#definitions.get(name);
    const starting: Promise<WorkflowHandle> =
      definition === undefined
        ? flows.start(name, input, options)
        : flows.start(definition as never, input as never, options);
    const handle = await starting.catch(async (error) => {
      if ((error as RivuletError).code !== 'ALREADY_EXISTS') throw error;
      const started = flows.get(name, key);
      if (!(await started.hasBegunWith(input))) throw reused();
      return started;
    });
    if (key !== '') this.#keys.add(used, digest(body), true);
    const place = `${WORKFLOWS}${encodeURIComponent(name)}/${encodeURIComponent(handle.id)}`;
    exchange.reply.header('location', place);
    if (await this.#waited(exchange, handle)) {
      await this.#show(exchange, handle);
      return;
    }
    // One that was started before may have ended.
    const status = key === '' ? 'running' : (await handle.info()).status;
    exchange.reply.code(202).send({ workflow: name, id: handle.id, status });
  }

  async #signal(exchange: Exchange, handle: WorkflowHandle, signal: string): Promise<void> {
    const { body, value } = await jsonBody(exchange);
    const key = headerOf(exchange.request, 'idempotency-key');
    const used = `${handle.name} ${handle.id} ${signal} ${key}`;
    if (key !== '') this.#keys.isStored(used, digest(body));
    await handle.signal(signal, value as never, key === '' ? {} : { id: key });
    if (key !== '') this.#keys.add(used, digest(body), true);
    exchange.reply.code(202).send({ workflow: handle.name, id: handle.id, signal });
  }

  async #show(exchange: Exchange, handle: WorkflowHandle): Promise<void> {
    await this.#waited(exchange, handle);
    const info = await handle.info();
    const { status, version, startedAt, endedAt, reason, code } = info;
    const state = await handle.state();
    const hasResult = status === 'completed';
    exchange.reply.code(200).send({
      workflow: handle.name,
      id: handle.id,
      status,
      version,
      startedAt,
      ...(endedAt === undefined ? {} : { endedAt }),
      ...(state === undefined ? {} : { state }),
      ...(hasResult ? { result: (await handle.result({ timeoutMs: 1000 })) ?? null } : {}),
      ...(reason === undefined ? {} : { reason }),
      ...(code === undefined ? {} : { code }),
    });
  }

  /** True where the instance ended within the time that the client asked for. */
  async #waited(exchange: Exchange, handle: WorkflowHandle): Promise<boolean> {
    const [, seconds] =
      /(?:^|[\s,;])wait=(\d{1,6})\b/.exec(headerOf(exchange.request, 'prefer')) ?? [];
    if (seconds === undefined) return false;
    const timeoutMs = Math.max(1, Math.min(Number(seconds) * 1000, exchange.rule.timeoutMs));
    // The workflow may have thrown any error: its journal says whether it has ended.
    await handle.result({ timeoutMs, signal: exchange.signal }).catch(() => {});
    const { status } = await handle.info();
    return status === 'completed' || status === 'failed' || status === 'cancelled';
  }

  #open(): Promise<Workflows> {
    this.#opening ??= (async () => workflows(await this.#broker()))().catch((error) => {
      this.#opening = null;
      throw error;
    });
    return this.#opening;
  }
}

/** A body and its JSON; undefined for none. */
async function jsonBody(exchange: Exchange): Promise<{ body: Buffer; value: unknown }> {
  const body = await bodyOf(exchange);
  if (body.length === 0) return { body, value: undefined };
  const type = headerOf(exchange.request, 'content-type').split(';')[0]?.trim().toLowerCase();
  // A form of another page can send text without asking; JSON it cannot.
  if (type !== 'application/json') {
    throw new HttpError(415, 'send JSON, with content-type: application/json');
  }
  mustBeText(exchange, body);
  mustBeSmall(body);
  try {
    return { body, value: JSON.parse(body.toString()) };
  } catch (error) {
    throw new HttpError(400, `the body is no JSON: ${(error as Error).message}`);
  }
}

function mustBe(method: 'GET' | 'POST', exchange: Exchange): void {
  if (exchange.method === method) return;
  throw new HttpError(405, `send a ${method}`, { allow: method });
}

function nothing(): HttpError {
  return new HttpError(404, 'there is no such workflow here');
}

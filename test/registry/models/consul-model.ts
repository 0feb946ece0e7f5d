/**
 * A model of the part of Consul's HTTP API that its registry uses: one agent that is a server too.
 *
 * It follows the API's documentation: TTL checks turn critical when they are not passed in time, a
 * critical check removes its service later, blocking queries end at the next change, every request
 * needs the token if there is one, a read with `stale` is answered by any server. It is not Consul: `CONSUL_HTTP_ADDR` runs the suite on a real one.
 */
import { HttpModel, type ModelReply, type ModelRequest } from './http-model.ts';

interface Held {
  readonly id: string;
  readonly name: string;
  readonly tags: unknown[];
  readonly address: string;
  readonly port: number;
  readonly ttlMs: number;
  /** False for what was registered without a check. */
  readonly isChecked: boolean;
  status: 'passing' | 'critical';
  modifyIndex: number;
  timer: NodeJS.Timeout | null;
}

export class ConsulModel extends HttpModel {
  readonly token: string;
  readonly requests: string[] = [];
  /** As before Consul 1.11: what the agent does not know is an error of its own. */
  isOld = false;
  /** False while its servers have no leader: only reads that take any server's data are answered. */
  hasLeader = true;
  #services = new Map<string, Held>();
  /** What a server has that is behind: reads that take any server's data reach that one. */
  #behind: Map<string, Held> | null = null;
  #index = 1;
  #machine: 'passing' | 'critical' = 'passing';
  #waiting = new Set<() => void>();

  constructor(token = '') {
    super();
    this.token = token;
  }

  /** As an agent that was started again without its data directory. */
  empty(): void {
    for (const each of this.#services.values()) clearTimeout(each.timer ?? undefined);
    this.#services.clear();
    this.#index = 1;
    this.#notify();
  }

  /** What any other program may have registered. */
  addForeign(held: Partial<Held> & { id: string; name: string }): void {
    this.#services.set(held.id, {
      tags: [],
      address: '127.0.0.1',
      port: 1234,
      ttlMs: 0,
      isChecked: true,
      status: 'passing',
      modifyIndex: ++this.#index,
      timer: null,
      ...held,
    });
    this.#notify();
  }

  /** From now on one of its servers receives no change, and answers the reads that allow it. */
  fallBehind(): void {
    this.#behind = new Map([...this.#services].map(([id, held]) => [id, { ...held }]));
  }

  remove(id: string): void {
    this.#deregister(id);
  }

  /** The machine of all services dies: its agent changes no check of theirs any more. */
  failMachine(): void {
    for (const each of this.#services.values()) clearTimeout(each.timer ?? undefined);
    this.#machine = 'critical';
    this.#index++;
    this.#notify();
  }

  tagsOf(id: string): unknown[] {
    return this.#services.get(id)?.tags ?? [];
  }

  override async stop(): Promise<void> {
    this.#notify();
    await super.stop();
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    this.empty();
    await super[Symbol.asyncDispose]();
  }

  protected async answer({ method, url, headers, body }: ModelRequest): Promise<ModelReply> {
    this.requests.push(`${method} ${url.pathname}`);
    if (this.token !== '' && headers['x-consul-token'] !== this.token) {
      return { status: 403, body: 'Permission denied' };
    }
    const [, , section = '', kind = '', action = '', ...rest] = url.pathname.split('/');
    const name = decodeURIComponent(rest.join('/'));
    const route = `${method} ${section}/${kind}`;
    if (route === 'PUT agent/service' && action === 'register') return this.#register(body);
    if (route === 'PUT agent/service' && action === 'deregister') return this.#deregister(name);
    if (route === 'PUT agent/check' && action === 'pass') return this.#pass(name);
    const isStale = url.searchParams.has('stale');
    if (method === 'GET' && !isStale && !this.hasLeader) {
      return { status: 500, body: 'No cluster leader' };
    }
    const services = (isStale ? this.#behind : null) ?? this.#services;
    if (route === 'GET health/service') return this.#health(services, decodeURIComponent(action));
    if (route === 'GET health/state') return this.#state(url.searchParams);
    if (route === 'GET catalog/services') {
      await this.#next(url.searchParams);
      const names = [...services.values()].map((each) => [each.name, each.tags]);
      return this.#reply({ consul: [], ...Object.fromEntries(names) });
    }
    return { status: 404, body: `no such path ${url.pathname}` };
  }

  #register(text: string): ModelReply {
    const { ID, Name, Tags, Port, Address, Check } = JSON.parse(text);
    const least = durationMs(Check.DeregisterCriticalServiceAfter);
    if (!(least >= 60_000)) return { status: 400, body: 'DeregisterCriticalServiceAfter below 1m' };
    if (!(durationMs(Check.TTL) > 0)) return { status: 400, body: 'Check TTL must be > 0' };
    clearTimeout(this.#services.get(ID)?.timer ?? undefined);
    const held: Held = {
      id: ID,
      name: Name,
      tags: Tags,
      address: Address,
      port: Port,
      ttlMs: durationMs(Check.TTL),
      isChecked: true,
      status: 'critical',
      modifyIndex: ++this.#index,
      timer: null,
    };
    this.#services.set(ID, held);
    this.#notify();
    return { status: 200 };
  }

  #deregister(id: string): ModelReply {
    const held = this.#services.get(id);
    if (held === undefined) return this.#unknown(`Unknown service "${id}"`);
    clearTimeout(held.timer ?? undefined);
    this.#services.delete(id);
    this.#index++;
    this.#notify();
    return { status: 200 };
  }

  #pass(check: string): ModelReply {
    const held = this.#services.get(check.replace(/^service:/, ''));
    if (held === undefined) return this.#unknown(`CheckID "${check}" does not have associated TTL`);
    clearTimeout(held.timer ?? undefined);
    this.#set(held, 'passing');
    held.timer = setTimeout(() => this.#set(held, 'critical'), held.ttlMs);
    held.timer.unref();
    return { status: 200 };
  }

  #unknown(body: string): ModelReply {
    return { status: this.isOld ? 500 : 404, body };
  }

  #set(held: Held, status: Held['status']): void {
    if (held.status === status) return;
    held.status = status;
    held.modifyIndex = ++this.#index;
    this.#notify();
  }

  #health(services: ReadonlyMap<string, Held>, name: string): ModelReply {
    const entries = [...services.values()]
      .filter((each) => each.name === name)
      .map(({ id, tags, address, port, status, isChecked }) => ({
        Node: { Node: 'model', Address: '127.0.0.1' },
        Service: { ID: id, Service: name, Tags: tags, Address: address, Port: port },
        Checks: [
          { CheckID: 'serfHealth', Status: this.#machine },
          ...(isChecked ? [{ CheckID: `service:${id}`, Status: status }] : []),
        ],
      }));
    return this.#reply(entries);
  }

  /** Waits for the next change where the query names the state of now. */
  async #next(query: URLSearchParams): Promise<void> {
    if (query.get('index') === String(this.#index)) {
      const waitMs = durationMs(query.get('wait') ?? '300s');
      await new Promise<void>((resolve) => {
        const end = () => {
          clearTimeout(timer);
          this.#waiting.delete(end);
          resolve();
        };
        const timer = setTimeout(end, waitMs);
        timer.unref();
        this.#waiting.add(end);
      });
    }
  }

  async #state(query: URLSearchParams): Promise<ModelReply> {
    await this.#next(query);
    const checked = [...this.#services.values()].filter(({ isChecked }) => isChecked);
    const checks = checked.map(({ id, name, status, modifyIndex }) => ({
      Node: 'model',
      CheckID: `service:${id}`,
      ServiceID: id,
      ServiceName: name,
      Status: status,
      ModifyIndex: modifyIndex,
    }));
    const Status = this.#machine;
    const own = { Node: 'model', CheckID: 'serfHealth', ServiceID: '', ServiceName: '', Status };
    return this.#reply([own, ...checks]);
  }

  #reply(body: unknown): ModelReply {
    return { status: 200, body, headers: { 'x-consul-index': String(this.#index) } };
  }

  #notify(): void {
    for (const end of [...this.#waiting]) end();
  }
}

/** A duration as Go writes it: `1m30s`. */
function durationMs(text: string): number {
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(text)) return Number.NaN;
  let total = 0;
  for (const [, number = '', unit = ''] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    total += Number(number) * ({ ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[unit] ?? Number.NaN);
  }
  return total;
}

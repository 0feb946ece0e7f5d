/**
 * A model of the part of Eureka's REST API that its registry uses.
 *
 * It follows the API's documentation and its known habits: names of applications in capitals, a list
 * of one written as the one, numbers as texts, a delta of the latest changes with a hash of all, XML for
 * clients that send or accept it. It is not Eureka: `EUREKA_URL` runs the suite on a real one. Unlike Eureka it evicts at once.
 */
import { fromXml, toXml } from './eureka-xml.ts';
import { HttpModel, type ModelReply, type ModelRequest } from './http-model.ts';

type Instance = Record<string, unknown> & { status: string; instanceId: string; app: string };

export class EurekaModel extends HttpModel {
  readonly credentials: string;
  readonly requests: string[] = [];
  readonly #instances = new Map<string, Instance>();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  #delta: Instance[] = [];
  /** Whether deltas leave out what changed, as those of a server that was cut off do. */
  forgetsChanges = false;

  constructor(credentials = '') {
    super();
    this.credentials = credentials;
  }

  get url(): string {
    return `127.0.0.1:${this.port}`;
  }

  empty(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
    this.#instances.clear();
    this.#delta = [];
  }

  put(instance: Record<string, unknown>, leaseMs = 0): void {
    const app = String(instance.app).toUpperCase();
    const id = String(instance.instanceId || instance.hostName);
    const instanceId = String(instance.instanceId ?? '');
    const held = { ...instance, app, instanceId, status: String(instance.status ?? 'UP') };
    this.#instances.set(`${app} ${id}`, held);
    this.#changed(held, 'ADDED');
    this.#renew(`${app} ${id}`, leaseMs);
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    this.empty();
    await super[Symbol.asyncDispose]();
  }

  protected async answer(request: ModelRequest): Promise<ModelReply> {
    const reply = this.#answer(request);
    const [root] = Object.entries(reply.body ?? {});
    if (!request.headers.accept?.includes('xml') || root === undefined) return reply;
    return { status: reply.status, xml: toXml(...root) };
  }

  #answer({ method, url, headers, body }: ModelRequest): ModelReply {
    this.requests.push(`${method} ${url.pathname}`);
    if (this.credentials !== '') {
      const wanted = `Basic ${Buffer.from(this.credentials).toString('base64')}`;
      if (headers.authorization !== wanted) return { status: 401, body: 'who are you' };
    }
    const parts = url.pathname.replace(/^\/eureka(\/v2)?\//, '').split('/');
    const [root, app = '', id = ''] = parts.map(decodeURIComponent);
    if (root !== 'apps') return { status: 404 };
    if (app === 'delta') return this.#applications(this.#delta);
    if (app === '') return this.#applications([...this.#instances.values()]);
    const key = `${app.toUpperCase()} ${id}`;
    if (method === 'POST') {
      const isXml = headers['content-type']?.includes('xml');
      const instance = isXml ? fromXml(body) : JSON.parse(body).instance;
      if (!isXml && instance.dataCenterInfo?.['@class'] === undefined) return { status: 400 };
      this.put(instance, leaseOf(instance));
      return { status: 204 };
    }
    if (method === 'GET' && id !== '') {
      const instance = this.#instances.get(key);
      return instance === undefined ? { status: 404 } : { status: 200, body: { instance } };
    }
    if (method === 'GET') {
      const found = [...this.#instances.values()].filter((each) => each.app === app.toUpperCase());
      if (found.length === 0) return { status: 404 };
      return {
        status: 200,
        body: { application: { name: app.toUpperCase(), instance: one(found) } },
      };
    }
    const instance = this.#instances.get(key);
    if (instance === undefined) return { status: 404 };
    if (method === 'DELETE') this.#remove(key);
    else this.#renew(key, leaseOf(instance));
    return { status: 200 };
  }

  #renew(key: string, leaseMs: number): void {
    clearTimeout(this.#timers.get(key));
    if (leaseMs <= 0) return;
    const timer = setTimeout(() => this.#remove(key), leaseMs);
    timer.unref();
    this.#timers.set(key, timer);
  }

  #remove(key: string): void {
    clearTimeout(this.#timers.get(key));
    this.#timers.delete(key);
    const instance = this.#instances.get(key);
    if (instance === undefined) return;
    this.#instances.delete(key);
    this.#changed(instance, 'DELETED');
  }

  #changed(instance: Instance, actionType: string): void {
    if (!this.forgetsChanges)
      this.#delta = [...this.#delta, { ...instance, actionType }].slice(-200);
  }

  #applications(instances: readonly Instance[]): ModelReply {
    const byApp = grouped(instances, ({ app }) => app);
    const application = [...byApp].map(([name, list]) => ({ name, instance: one(list) }));
    const counts = grouped(this.#instances.values(), ({ status }) => status);
    const hash = [...counts]
      .map(([status, list]) => `${status}_${list.length}_`)
      .sort()
      .join('');
    const applications = {
      versions__delta: '1',
      apps__hashcode: hash,
      application: one(application),
    };
    return { status: 200, body: { applications } };
  }
}

/** Eureka gives 90 s to an instance that asks for none. */
function leaseOf({ leaseInfo }: Instance): number {
  const { durationInSecs } = (leaseInfo ?? {}) as { durationInSecs?: number | string };
  return (Number(durationInSecs ?? 0) || 90) * 1000;
}

function one<T>(list: readonly T[]): T | readonly T[] {
  return list.length === 1 ? (list[0] as T) : list;
}

function grouped<T>(items: Iterable<T>, keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}

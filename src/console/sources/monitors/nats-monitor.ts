/**
 * The monitoring pages of nats-server (`http_port`, -m): what the protocol does not report.
 *
 * Holds: the last counters, of which rates are made. Cost: each question is one to three requests.
 */
import type { ClientRow, Overview, ServerFacts } from '../../api-types.ts';
import { factsIn, type Monitor, MonitorPages, numberIn, shownFacts } from './monitor.ts';

const MOST_CLIENTS = 500;
const SERVER = [
  'server_name',
  'version',
  'go',
  'uptime',
  'cores',
  'cpu',
  'mem',
  'connections',
  'total_connections',
  'subscriptions',
  'slow_consumers',
  'in_msgs',
  'out_msgs',
  'in_bytes',
  'out_bytes',
  'max_payload',
];
const JETSTREAM = ['streams', 'consumers', 'messages', 'bytes', 'memory', 'storage', 'disabled'];
/** Rates over less than this are noise. */
const LEAST_MS = 500;

interface Counters {
  readonly at: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export class NatsMonitor implements Monitor {
  readonly #pages: MonitorPages;
  #last: Counters | null = null;
  #rates: Partial<Overview['rates']> = {};

  constructor(address: string) {
    this.#pages = new MonitorPages(address, '--nats-monitor', null);
  }

  async server(): Promise<ServerFacts> {
    const [server, jetStream] = await Promise.all([
      this.#pages.facts('varz'),
      this.#pages.facts('jsz'),
    ]);
    const limits = shownFacts(factsIn(jetStream.config), ['max_memory', 'max_storage']);
    return {
      at: Date.now(),
      sections: [
        { title: 'NATS', facts: shownFacts(server, SERVER) },
        { title: 'JetStream', facts: [...shownFacts(jetStream, JETSTREAM), ...limits] },
      ],
      loopDelayMs: null,
      syncMs: null,
      config: [],
    };
  }

  async clients(): Promise<ClientRow[]> {
    const { connections } = await this.#pages.facts(`connz?limit=${MOST_CLIENTS}&auth=1`);
    const now = Date.now();
    const since = (time: unknown): number => Math.max(0, now - Date.parse(String(time))) || 0;
    return (Array.isArray(connections) ? connections : []).map(factsIn).map((each) => ({
      id: String(each.cid ?? ''),
      address: `${String(each.ip ?? '')}:${String(each.port ?? '')}`,
      name: String(each.name ?? ''),
      user: String(each.authorized_user ?? ''),
      ageMs: since(each.start),
      idleMs: since(each.last_activity),
      command: `${String(each.subscriptions ?? 0)} subscriptions`,
    }));
  }

  async rates(): Promise<Partial<Overview['rates']>> {
    const server = await this.#pages.facts('varz');
    const now: Counters = {
      at: performance.now(),
      bytesIn: numberIn(server, 'in_bytes') ?? 0,
      bytesOut: numberIn(server, 'out_bytes') ?? 0,
    };
    const last = this.#last;
    if (last !== null && now.at - last.at < LEAST_MS) return this.#rates;
    this.#last = now;
    if (last === null) return this.#rates;
    const seconds = (now.at - last.at) / 1000;
    // Counters of a server that has restarted begin at 0.
    const rate = (name: keyof Counters) => Math.max(0, now[name] - last[name]) / seconds;
    this.#rates = { bytesIn: rate('bytesIn'), bytesOut: rate('bytesOut') };
    return this.#rates;
  }
}

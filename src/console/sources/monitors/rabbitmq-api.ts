/**
 * RabbitMQ's management API: what AMQP does not report.
 *
 * Needs RabbitMQ's plugin `rabbitmq_management`. Cost: each question is one or two requests; the numbers of
 * topics are one request a page of 500 queues, and are asked each 10 s at most.
 */
import type { ClientRow, Overview, ServerFacts } from '../../api-types.ts';
import {
  decoded,
  type Facts,
  type GroupNumbers,
  type Monitor,
  MonitorPages,
  numberIn,
  shownFacts,
  type TopicNumbers,
} from './monitor.ts';

const PAGE = 500;
const MOST_PAGES = 200;
const MOST_CLIENTS = 500;
/** The adapter's streams: a topic's name follows. */
const TOPIC = 'rivulet.topic.';
/** The adapter's queues of groups: `<group>:<topic>` follows. */
const GROUP = 'rivulet.group.';
/** RabbitMQ's limit of a name; the adapter shortens longer ones. */
const LONGEST_NAME = 255;
const COLUMNS = 'name,message_bytes,message_stats.publish_details.rate';

const OVERVIEW = ['rabbitmq_version', 'erlang_version', 'cluster_name', 'node'];
const NODE = [
  'running',
  'uptime',
  'mem_used',
  'mem_limit',
  'mem_alarm',
  'disk_free',
  'disk_free_limit',
  'disk_free_alarm',
  'fd_used',
  'fd_total',
  'sockets_used',
  'sockets_total',
  'proc_used',
  'proc_total',
  'run_queue',
];

export class RabbitMqApi implements Monitor {
  readonly #pages: MonitorPages;
  readonly #vhost: string;

  /** `broker`: the broker's address, whose user is the API's where `address` names none. */
  constructor(address: string, broker: string) {
    const [first = ''] = broker.split(',');
    const url = URL.canParse(first) ? new URL(first) : null;
    const login = {
      user: decoded(url?.username ?? '') || 'guest',
      password: decoded(url?.password ?? '') || 'guest',
    };
    this.#pages = new MonitorPages(address, '--rabbitmq-api', login);
    // As the adapter reads it: an empty path is the virtual host with an empty name only where it is written.
    this.#vhost = decoded((url?.pathname ?? '').replace(/^\//, '')) || '/';
  }

  async server(): Promise<ServerFacts> {
    const [overview, nodes] = await Promise.all([
      this.#pages.facts('api/overview'),
      this.#pages.list('api/nodes'),
    ]);
    const totals = Object.entries((overview.object_totals ?? {}) as Facts);
    return {
      at: Date.now(),
      sections: [
        { title: 'RabbitMQ', facts: shownFacts(overview, OVERVIEW) },
        {
          title: 'Objects',
          facts: totals.map(([name, value]): [string, string] => [name, String(value)]),
        },
        ...nodes.map((node) => ({
          title: `Node ${String(node.name)}`,
          facts: shownFacts(node, NODE),
        })),
      ],
      loopDelayMs: null,
      syncMs: null,
      config: [],
    };
  }

  async clients(): Promise<ClientRow[]> {
    const path = `api/connections?page=1&page_size=${MOST_CLIENTS}`;
    const now = Date.now();
    return (await this.#pages.list(path)).map((each) => {
      const since = numberIn(each, 'connected_at');
      return {
        id: String(each.name ?? ''),
        address: `${String(each.peer_host ?? '')}:${String(each.peer_port ?? '')}`,
        name: String((each.client_properties as Facts | undefined)?.connection_name ?? ''),
        user: String(each.user ?? ''),
        ageMs: since === null ? 0 : Math.max(0, now - since),
        idleMs: 0,
        command: String(each.state ?? ''),
      };
    });
  }

  async rates(): Promise<Partial<Overview['rates']>> {
    const overview = await this.#pages.facts('api/overview');
    const rate = (name: string) => numberIn(overview, 'message_stats', `${name}_details`, 'rate');
    return {
      published: rate('publish'),
      delivered: rate('deliver_get'),
      settled: rate('ack'),
    };
  }

  async group(topic: string, group: string): Promise<GroupNumbers | null> {
    const name = `${GROUP}${group.replaceAll('%', '%25').replaceAll(':', '%3A')}:${topic}`;
    if (Buffer.byteLength(name) > LONGEST_NAME) return null;
    const path = `api/queues/${encodeURIComponent(this.#vhost)}/${encodeURIComponent(name)}`;
    const queue = await this.#pages.factsOrNull(path);
    if (queue === null) return null;
    return {
      pending: numberIn(queue, 'messages_unacknowledged'),
      waiting: numberIn(queue, 'messages_ready'),
      consumers: numberIn(queue, 'consumers'),
    };
  }

  async topics(): Promise<ReadonlyMap<string, TopicNumbers>> {
    const found = new Map<string, TopicNumbers>();
    const vhost = encodeURIComponent(this.#vhost);
    for (let page = 1; page <= MOST_PAGES; page++) {
      const query = `page=${page}&page_size=${PAGE}&columns=${COLUMNS}`;
      const queues = await this.#pages.list(`api/queues/${vhost}?${query}`);
      for (const queue of queues) {
        const name = String(queue.name ?? '');
        // A name that was too long is a hash, from which no topic can be read.
        if (!name.startsWith(TOPIC) || name.startsWith(`${TOPIC}#`)) continue;
        found.set(name.slice(TOPIC.length), {
          rate: numberIn(queue, 'message_stats', 'publish_details', 'rate'),
          bytes: numberIn(queue, 'message_bytes'),
        });
      }
      if (queues.length < PAGE) break;
    }
    return found;
  }
}

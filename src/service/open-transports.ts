/**
 * Transports by their names: which a service listens on, and which its client dials, in order.
 *
 * Holds: one row per transport. Invariants: `auto` is every transport for which the service has
 * what it needs, the fastest first; a transport's module loads at its first use; an unknown name is
 * INVALID_ARGUMENT with the names that are known. Cost: none after the start.
 */
import type { Broker } from '../broker/broker.ts';
import { RivuletError } from '../errors.ts';
import { isPortTransport } from '../transport/port.ts';
import type { TlsOptions } from '../transport/tls.ts';
import type { Transport } from '../transport/transport.ts';
import { nearestName } from '../util/nearest-name.ts';
import type { Scheduler } from '../util/time/scheduler.ts';

/** What a transport may need. */
export interface TransportMeans {
  readonly scheduler: Scheduler;
  readonly tls?: TlsOptions | undefined;
  /** Largest message of grpc and http. Default: each one's own. */
  readonly maxMessageBytes?: number | undefined;
  /** Opens the broker on first use; null where the service has none. */
  readonly broker: (() => Promise<Broker>) | null;
}

interface TransportRow {
  readonly name: string;
  /** Part of `auto`. */
  readonly auto: boolean;
  /** Shares one port with the others of its kind. */
  readonly onPort?: true;
  /** Null where the service lacks what the transport needs. */
  open(means: TransportMeans): Promise<Transport | null>;
  /** What the transport needs, for the error when a caller named it. */
  readonly needs?: string;
}

/** In `auto`'s order of preference. */
const ROWS: readonly TransportRow[] = [
  {
    name: 'local',
    auto: true,
    open: async ({ scheduler }) =>
      new (await import('../transport/local/local.ts')).LocalTransport(scheduler),
  },
  {
    name: 'tcp',
    auto: true,
    onPort: true,
    open: async (means) => new (await import('../transport/tcp/tcp.ts')).TcpTransport(means),
  },
  {
    name: 'broker',
    auto: true,
    needs: 'a broker that carries requests: set `broker` or MICRO_BROKER to the URL of one',
    async open({ broker, scheduler }) {
      const opened = await broker?.();
      if (opened?.capabilities.requestReply !== true) return null;
      return new (await import('../rpc/broker/broker-transport.ts')).BrokerTransport(
        opened,
        scheduler,
      );
    },
  },
  // grpc and http reach nodes of other programs, so they come after our own.
  {
    name: 'grpc',
    auto: true,
    onPort: true,
    open: async (means) => new (await import('../transport/grpc/grpc.ts')).GrpcTransport(means),
  },
  {
    name: 'ws',
    auto: false,
    onPort: true,
    open: async (means) =>
      new (await import('../transport/websocket.ts')).WebSocketTransport(means),
  },
  {
    name: 'http',
    auto: true,
    onPort: true,
    open: async (means) => new (await import('../transport/mucp/mucp.ts')).MucpTransport(means),
  },
  {
    name: 'udp',
    auto: false,
    open: async (means) => new (await import('../transport/udp/udp.ts')).UdpTransport(means),
  },
];

export type TransportChoice = string | Transport | readonly (string | Transport)[];

/** Throws INVALID_ARGUMENT for a name that no row has. */
export function checkTransports(choice: TransportChoice): void {
  for (const each of listOf(choice)) if (typeof each === 'string') rowsOf(each);
}

/** The transports of a choice, each once, in order of preference. */
export async function openTransports(
  choice: TransportChoice,
  means: TransportMeans,
): Promise<Transport[]> {
  const opened = new Map<string, Transport>();
  for (const each of listOf(choice)) {
    if (typeof each !== 'string') opened.set(each.name, each);
    else {
      for (const row of rowsOf(each)) {
        if (opened.has(row.name)) continue;
        const transport = await row.open(means);
        if (transport !== null) opened.set(row.name, transport);
        else if (each === row.name) {
          const text = `the transport ${JSON.stringify(row.name)} needs ${row.needs}`;
          throw new RivuletError(means.broker === null ? 'INVALID_ARGUMENT' : 'UNSUPPORTED', text);
        }
      }
    }
  }
  return [...opened.values()];
}

/**
 * What a service listens on: its transports, and beside one that has a port every other protocol of
 * that port, so that each kind of client finds the node.
 */
export async function listeningTransports(
  chosen: readonly Transport[],
  means: TransportMeans,
): Promise<Transport[]> {
  const listening = [...chosen];
  if (!chosen.some(isPortTransport)) return listening;
  for (const row of ROWS) {
    if (row.onPort !== true || listening.some(({ name }) => name === row.name)) continue;
    listening.push((await row.open(means)) as Transport);
  }
  return listening;
}

function rowsOf(name: string): readonly TransportRow[] {
  if (name === 'auto') return ROWS.filter(({ auto }) => auto);
  const row = ROWS.find((each) => each.name === name);
  if (row !== undefined) return [row];
  const known = ['auto', ...ROWS.map((each) => each.name)];
  const near = nearestName(name, known);
  const hint = near === null ? `there are ${known.join(', ')}` : `did you mean ${near}?`;
  const text = `transport ${JSON.stringify(name.slice(0, 64))} is not known: ${hint}`;
  throw new RivuletError('INVALID_ARGUMENT', text);
}

function listOf(choice: TransportChoice): readonly (string | Transport)[] {
  if (typeof choice === 'string') return choice.split(',').map((each) => each.trim());
  return Array.isArray(choice) ? choice : [choice as Transport];
}

/**
 * Where an engine lives: in a server, or in an embedded broker of this process.
 */
import type { EngineHost } from '../../broker/embedded/engine-host.ts';
import type { Engine } from '../../engine/engine.ts';
import { User } from '../../server/acl/acl-user.ts';
import type { ServerState } from '../../server/server-state.ts';
import type { Commands } from './commands.ts';
import { EmbeddedCommands } from './embedded-commands.ts';
import { LocalCommands } from './local-commands.ts';

export interface EngineHome {
  readonly kind: 'engine' | 'memory' | 'file';
  readonly engine: Engine;
  /** The console's own: for what is written for any user. */
  readonly own: Commands;
  /** Monotonic ms. */
  readonly startedAt: number;
  readonly unready: () => string | null;
  /** Numbers since the start; null where there are no connections. */
  readonly traffic: () => { bytesIn: number; bytesOut: number; commands: number } | null;
  readonly clients: () => number | null;
  /** Calls back with what fails in the background, until the returned function is called. */
  onTrouble(listener: (error: unknown) => void): () => void;
  close(): void;
}

export function serverHome(state: ServerState, unready: () => string | null): EngineHome {
  const user = new User('console', state.acl.table, true);
  for (const rule of ['on', '+@all', '~*', '&*']) user.apply(rule);
  const own = new LocalCommands(state, user, '127.0.0.1');
  const { failures, statistics } = state;
  return {
    kind: 'engine',
    engine: state.engine,
    own,
    startedAt: state.startedMonotonic,
    unready,
    traffic: () => ({
      bytesIn: statistics.inputBytes,
      bytesOut: statistics.outputBytes,
      commands: statistics.commands,
    }),
    clients: () => state.connections.size,
    onTrouble(listener) {
      const before = failures.onNoted;
      failures.onNoted = (error) => {
        before(error);
        listener(error);
      };
      return () => {
        failures.onNoted = before;
      };
    },
    close: () => own.close(),
  };
}

export function embeddedHome(kind: 'memory' | 'file', host: EngineHost): EngineHome {
  const { engine } = host;
  return {
    kind,
    engine,
    own: new EmbeddedCommands(host),
    startedAt: engine.clock.monotonic(),
    unready: () => host.refusal?.message ?? null,
    traffic: () => null,
    clients: () => null,
    onTrouble: () => () => {},
    close() {},
  };
}

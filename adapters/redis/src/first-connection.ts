/**
 * Opens the first connection to a server.
 *
 * Invariants: addresses are tried in turn until one replies or the signal aborts. Wrong credentials, a
 * certificate that is not trusted and a missing database fail at once, because a retry does not help.
 * Cost: one connection; a pause of at most 500 ms between two attempts.
 */
import { type BrokerOptions, isOutage, pause, RivuletError } from 'rivulet/adapter';
import type { Connection, Connector } from './connection.ts';
import { certificateFault } from './errors.ts';

export async function connectFirst(
  connector: Connector,
  { addresses, connectTimeoutMs, scheduler }: Readonly<BrokerOptions>,
  address: string,
  signal: AbortSignal,
): Promise<Connection> {
  let last: unknown;
  for (let attempt = 1; !signal.aborted; attempt++) {
    const connection = connector.make('commands');
    const abort = () => connection.close();
    signal.addEventListener('abort', abort, { once: true });
    try {
      await connection.connect();
      // A server that requires a password refuses a client without one here.
      await connection.call('PING');
      if (addresses.length > 0) await checkDatabase(connector, connection);
      return connection;
    } catch (error) {
      connection.close();
      const fault = certificateFault(error) ?? certificateFault(connection.lastError);
      if (fault !== null) {
        const text = `the certificate of the Redis server is not trusted: ${fault}; give its authority as client: { tls: { ca } }`;
        throw new RivuletError('CONNECTION_FAILED', text, { cause: error });
      }
      last = error;
      if (!(error instanceof RivuletError) || error.code !== 'NOT_CONNECTED') throw error;
    } finally {
      signal.removeEventListener('abort', abort);
    }
    connector.nextAddress();
    await pause(scheduler, Math.min(50 * attempt, 500), signal).catch(() => {});
  }
  const text = `no connection to ${address} within ${connectTimeoutMs} ms`;
  throw new RivuletError('CONNECTION_FAILED', text, { cause: last });
}

/** If the server refuses a database, ioredis continues in database 0. */
async function checkDatabase(connector: Connector, connection: Connection): Promise<void> {
  const { database } = connector.current;
  if (database === 0) return;
  if (connector.cluster) throw noDatabase(database, 'a cluster has database 0 alone');
  try {
    await connection.call('SELECT', database);
  } catch (error) {
    if (isOutage(error)) throw error;
    throw noDatabase(database, (error as Error).message);
  }
}

function noDatabase(database: number, reason: string): RivuletError {
  const text = `the address asks for database ${database}, which the server does not have: ${reason}`;
  return new RivuletError('INVALID_ARGUMENT', text);
}

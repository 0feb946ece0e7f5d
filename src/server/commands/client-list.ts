/**
 * CLIENT LIST and CLIENT KILL: the clients that filters choose.
 */
import type { Arguments } from '../../util/arguments.ts';
import type { ClientSession } from '../connection/client-session.ts';
import type { ClientView } from '../connection/client-view.ts';
import { clientBytes } from '../observability/client-info.ts';
import { SYNTAX } from './common.ts';

type Filter = (client: ClientView) => boolean;

/** Redis's client types; there are no replicas here. */
function typeFilter(name: string): Filter | null {
  switch (name) {
    case 'normal':
      return (client) => !client.listening;
    case 'pubsub':
      return (client) => client.listening;
    case 'master':
    case 'replica':
    case 'slave':
      return () => false;
    default:
      return null;
  }
}

export function listClients(session: ClientSession): void {
  const { args } = session;
  let filter: Filter = () => true;
  if (args.count === 4 && args.is(2, 'TYPE')) {
    const found = typeFilter(args.text(3).toLowerCase());
    if (found === null) {
      session.reply.error(`ERR Unknown client type '${args.text(3)}'`);
      return;
    }
    filter = found;
  } else if (args.count > 3 && args.is(2, 'ID')) {
    const ids = new Set<number>();
    for (let i = 3; i < args.count; i++) {
      const id = args.integer(i);
      if (id === null || id < 1) {
        session.reply.error('ERR Invalid client ID');
        return;
      }
      ids.add(id);
    }
    filter = (client) => ids.has(client.id);
  } else if (args.count !== 2) {
    session.reply.error(SYNTAX);
    return;
  }
  let text = '';
  for (const client of session.server.connections.values()) {
    if (filter(client)) text += `${clientBytes(client)}\n`;
  }
  session.reply.verbatim(text, 'txt', 'latin1');
}

export function killClients(session: ClientSession): void {
  const { args } = session;
  const old = args.count === 3;
  const filters = old ? [addressFilter(args.text(2))] : killFilters(session, args);
  if (filters === null) return;
  let killed = 0;
  for (const client of [...session.server.connections.values()]) {
    if (!filters.every((matches) => matches(client))) continue;
    killed++;
    // This command's own reply is still sent.
    if (client === session) client.closeAfterReply();
    else client.destroy();
  }
  if (!old) session.reply.integer(killed);
  else if (killed === 0) session.reply.error('ERR No such client');
  else session.reply.ok();
}

function addressFilter(address: string): Filter {
  return (client) => client.address === address;
}

/** The filters of the new form; null after an error was written. */
function killFilters(session: ClientSession, args: Arguments): Filter[] | null {
  const filters: Filter[] = [];
  let skipMe = true;
  const fail = (text: string): null => {
    session.reply.error(text);
    return null;
  };
  for (let i = 2; i < args.count; i += 2) {
    if (i + 1 >= args.count) return fail(SYNTAX);
    const value = args.text(i + 1);
    switch (args.text(i).toLowerCase()) {
      case 'id': {
        const id = args.integer(i + 1);
        if (id === null || id < 1) return fail('ERR client-id should be greater than 0');
        filters.push((client) => client.id === id);
        break;
      }
      case 'addr':
        filters.push(addressFilter(value));
        break;
      case 'laddr':
        filters.push((client) => client.localAddress === value);
        break;
      case 'type': {
        const filter = typeFilter(value.toLowerCase());
        if (filter === null) return fail(`ERR Unknown client type '${value}'`);
        filters.push(filter);
        break;
      }
      case 'user': {
        const user = session.server.acl.find(args.latin1(i + 1));
        if (user === undefined) return fail(`ERR No such user '${value}'`);
        filters.push((client) => client.authenticated && client.user === user);
        break;
      }
      case 'maxage': {
        const age = args.integer(i + 1);
        if (age === null || age < 1) {
          return fail('ERR maxage is not an integer or out of range');
        }
        filters.push((client) => session.engine.time.monotonic - client.createdAt >= age * 1000);
        break;
      }
      case 'skipme':
        if (args.is(i + 1, 'YES')) skipMe = true;
        else if (args.is(i + 1, 'NO')) skipMe = false;
        else return fail(SYNTAX);
        break;
      default:
        return fail(SYNTAX);
    }
  }
  if (skipMe) filters.push((client) => client !== session);
  return filters;
}

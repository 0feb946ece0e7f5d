/**
 * What happens to clients that listen when their user's rights change.
 *
 * A client that subscribes or answers requests was checked when it began to. After a change it is
 * ended if one of its channels, patterns, shard channels or topics is no longer allowed, and left alone
 * otherwise (Redis: ACLKillPubsubClientsIfNeeded).
 * Cost: per listening client of that user, its names times the user's patterns.
 */
import type { User } from './acl-user.ts';
import { Exchange } from './exchange.ts';
import type { ServerState } from './server-state.ts';
import type { Session } from './session.ts';

/** Ends this user's clients that listen to what it may not; `self`, if one of them, after its reply. */
export function endForbiddenListeners(server: ServerState, user: User, self: Session | null): void {
  if (allows(user, null, false)) return;
  for (const connection of [...server.connections.values()]) {
    if (connection.user !== user || mayListen(connection, user)) continue;
    if (connection === self) connection.closeAfterReply();
    else connection.destroy();
  }
}

function mayListen({ subscriptions, exchange }: Session, user: User): boolean {
  if (subscriptions?.every((name, isPattern) => allows(user, name, isPattern)) === false) {
    return false;
  }
  if (!(exchange instanceof Exchange)) return true;
  for (const topic of exchange.topics) if (!allows(user, topic, false)) return false;
  return true;
}

/** `name` null: every channel. */
function allows({ root, selectors }: User, name: Buffer | null, isPattern: boolean): boolean {
  const sets = [root, ...selectors];
  if (name === null) return sets.some((set) => set.allChannels);
  return sets.some((set) => set.allowsChannel(name, isPattern));
}

/**
 * What a command about clients, users or the server sees of the client that sent it.
 */
import type { User } from '../acl/acl-user.ts';
import type { ReplyPath } from '../output/reply-path.ts';
import type { ReplyWriter } from '../output/reply-writer.ts';
import type { ServerState } from '../server-state.ts';
import type { ClientView } from './client-view.ts';
import type { Session } from './session.ts';

export interface ClientSession extends Session, ClientView {
  readonly engine: Session['engine'];
  readonly id: number;
  database: Session['database'];
  transaction: Session['transaction'];
  subscriptions: Session['subscriptions'];
  requests: Session['requests'];
  readonly reply: ReplyWriter;
  readonly server: ServerState;
  readonly replies: Pick<ReplyPath, 'setMode' | 'silent'>;
  name: string;
  libName: string;
  libVersion: string;
  noEvict: boolean;
  noTouch: boolean;
  /** A password is required, and the client has not logged in. */
  readonly mustLogIn: boolean;
  /** Logs in as this user. */
  become(user: User): void;
  /** RESET: as if it had just connected. */
  reset(): void;
}

/**
 * What a client has settled before its connection was served: while the data was loaded.
 */
import type { User } from './acl-user.ts';

export interface Greeting {
  /** Its number, which HELLO told it. */
  readonly id: number;
  /** Null: it did not log in. */
  readonly user: User | null;
  readonly protocol: 2 | 3;
  readonly name: string;
}

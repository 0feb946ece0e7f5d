/**
 * What a client that connected while the data was loaded has done before its commands run.
 */
import type { User } from '../acl/acl-user.ts';

export interface Greeting {
  /** Its id, which HELLO has already replied. */
  readonly id: number;
  /** Null: it did not log in. */
  readonly user: User | null;
  readonly protocol: 2 | 3;
  readonly name: string;
}

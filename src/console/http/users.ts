/**
 * The users of a console: those of the server it shows, or none.
 *
 * Contract only. Invariant: an account's viewer acts with the rights of that user and no others.
 */
import type { Role } from '../api-types.ts';
import type { Viewer } from '../sources/source.ts';

export interface Account {
  readonly name: string;
  readonly roles: readonly Role[];
  /** False once the user is gone or switched off. */
  readonly isValid: boolean;
  viewer(address: string): Viewer;
}

export interface Users {
  /** Whether a user and password can be given at all. */
  readonly canLogin: boolean;
  /** From another machine a login is asked for, even where `open` is given. */
  readonly asksElsewhere: boolean;
  /** The user of requests without a login; null = a login is needed. */
  readonly open: Account | null;
  /** Null: user or password is wrong. */
  login(user: string, password: string): Promise<Account | null>;
  close(): void;
}

/**
 * The user of the console, and what is possible: the API's root, as a signal.
 *
 * Invariants: `root` is null until the server has said who this is; pages are shown only with a root; what
 * one user has read is shown to no other.
 */
import { signal } from '@preact/signals';
import type { Capabilities, Login, Root, Verb } from '../../src/console/api-types.ts';
import { type ApiFailure, failureOf, get, post, remove } from './api.ts';
import { forgetAll } from './kept.ts';

export const root = signal<Root | null>(null);

/** Why there is no root. With status 401 a login is needed. */
export const rootFailure = signal<ApiFailure | null>(null);

/** The server's clock less ours: ages are of the server's time. */
let offsetMs = 0;

export function serverNow(): number {
  return Date.now() + offsetMs;
}

/**
 * The user whose session has ended while pages were open: what was typed there stays until a user logs in,
 * and is shown again if it is the same one.
 */
export const endedUser = signal<string | null>(null);

/** Rises with each question which user this is: an answer to an earlier one changes nothing. */
let asked = 0;

export async function loadRoot(): Promise<void> {
  asked += 1;
  const mine = asked;
  try {
    const value = await get<Root>('/');
    if (mine === asked) accept(value);
  } catch (error) {
    if (mine !== asked) return;
    const failure = failureOf(error);
    // An outage takes nothing away from the page; a refused user must not see it any longer.
    if (failure.isOutage) rootFailure.value = failure;
    else loseSession(failure);
  }
}

export async function logIn(login: Login): Promise<void> {
  const value = await post<Root>('/session', login);
  asked += 1;
  accept(value);
}

export async function logOut(): Promise<void> {
  await remove('/session');
  root.value = null;
  forgetAll();
  await loadRoot();
}

/** The server refused our cookie: a login is needed again. */
export function loseSession(failure: ApiFailure): void {
  if (root.value !== null) endedUser.value = root.value.user;
  rootFailure.value = failure;
  root.value = null;
}

function accept(value: Root): void {
  offsetMs = value.now - Date.now();
  const before = root.value?.user ?? endedUser.value;
  if (before !== value.user) forgetAll();
  endedUser.value = null;
  root.value = value;
  rootFailure.value = null;
}

export function can(verb: Verb): boolean {
  const value = root.value;
  return value !== null && !value.readOnly && value.verbs.includes(verb);
}

/** A call changes what its service changes: it needs the role, not a verb. */
export function canCall(): boolean {
  const value = root.value;
  if (value === null || value.readOnly) return false;
  return value.capabilities.call && value.roles.includes('operate');
}

/** Why the console does not have a thing; null when it has. */
export function missing(capability: Exclude<keyof Capabilities, 'missing'>): string | null {
  const capabilities = root.value?.capabilities;
  if (capabilities === undefined) return null;
  const value = capabilities[capability];
  if (value !== false && value !== 'none') return null;
  return (
    capabilities.missing[capability] ??
    `A broker of the kind "${root.value?.broker.kind}" does not tell this.`
  );
}

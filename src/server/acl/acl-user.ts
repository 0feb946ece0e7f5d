/**
 * One user: passwords (as SHA-256, never as text), whether it may log in, and its permissions: the
 * root set, and selectors, of which any one may allow a command.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Arguments } from '../../util/arguments.ts';
import type { CommandEntry, CommandTable } from '../command/command-table.ts';
import { lowerCase } from '../command/quoting.ts';
import { AclError, Permissions, type Refusal } from './acl-permissions.ts';

export class User {
  readonly name: string;
  enabled = false;
  /** Any password is accepted. */
  nopass = false;
  /** SHA-256 in lower-case hex. */
  readonly passwords = new Set<string>();
  root: Permissions;
  selectors: Permissions[] = [];
  #sanitize: 'sanitize-payload' | 'skip-sanitize-payload' = 'sanitize-payload';
  readonly #table: CommandTable;
  readonly #allChannels: boolean;

  constructor(name: string, table: CommandTable, allChannels: boolean) {
    this.name = name;
    this.#table = table;
    this.#allChannels = allChannels;
    this.root = new Permissions(table, allChannels);
  }

  clone(): User {
    const copy = new User(this.name, this.#table, this.#allChannels);
    copy.become(this);
    return copy;
  }

  /** Copies everything of another user except the name, so that clients keep their reference. */
  become(other: User): void {
    this.enabled = other.enabled;
    this.nopass = other.nopass;
    const passwords = [...other.passwords];
    this.passwords.clear();
    for (const password of passwords) this.passwords.add(password);
    this.root = other.root.clone();
    this.selectors = other.selectors.map((selector) => selector.clone());
    this.#sanitize = other.#sanitize;
  }

  get unrestricted(): boolean {
    return this.root.unrestricted;
  }

  /** Takes the same time for every wrong password. */
  accepts(password: Uint8Array): boolean {
    if (!this.enabled) return false;
    if (this.nopass) return true;
    const given = createHash('sha256').update(password).digest();
    let found = false;
    for (const known of this.passwords) {
      if (timingSafeEqual(given, Buffer.from(known, 'hex'))) found = true;
    }
    return found;
  }

  /** Why no permission set allows this command; null = one does. Of several reasons, that of the last check reached. */
  refusal(entry: CommandEntry, args: Arguments): Refusal | null {
    let furthest = this.root.refusal(entry, args);
    if (furthest === null) return null;
    for (const selector of this.selectors) {
      const refusal = selector.refusal(entry, args);
      if (refusal === null) return null;
      if (progress(refusal) > progress(furthest)) furthest = refusal;
    }
    return furthest;
  }

  /** Applies one rule of ACL SETUSER. Throws AclError. */
  apply(rule: string): void {
    const lower = lowerCase(rule);
    if (lower === 'on') this.enabled = true;
    else if (lower === 'off') this.enabled = false;
    else if (lower === 'nopass') {
      this.nopass = true;
      this.passwords.clear();
    } else if (lower === 'resetpass') {
      this.nopass = false;
      this.passwords.clear();
    } else if (lower === 'sanitize-payload' || lower === 'skip-sanitize-payload') {
      this.#sanitize = lower;
    } else if (lower === 'clearselectors') this.selectors = [];
    else if (lower === 'reset') this.#reset();
    else if (rule[0] === '(') this.#addSelector(rule);
    else if ('><#!'.includes(rule[0] ?? ' ')) this.#password(rule);
    else if (!this.root.apply(rule)) throw new AclError('Syntax error');
  }

  /** The flags of ACL GETUSER. */
  get flags(): string[] {
    const flags = [this.enabled ? 'on' : 'off'];
    if (this.nopass) flags.push('nopass');
    flags.push(this.#sanitize);
    return flags;
  }

  /** The line of ACL LIST, from `user` on: bytes as latin1. */
  get line(): string {
    return `user ${this.rules.join(' ')}`;
  }

  /** The name and the rules of this user: the words of a `user` line. */
  get rules(): string[] {
    const words = [this.name, ...this.flags];
    for (const password of this.passwords) words.push(`#${password}`);
    words.push(...this.root.text.split(' '));
    for (const selector of this.selectors) words.push(`(${selector.text})`);
    return words;
  }

  #reset(): void {
    this.passwords.clear();
    this.nopass = this.enabled = false;
    this.#sanitize = 'sanitize-payload';
    this.selectors = [];
    this.root = new Permissions(this.#table, this.#allChannels);
  }

  #addSelector(rule: string): void {
    if (!rule.endsWith(')')) throw new AclError('Syntax error');
    const selector = new Permissions(this.#table, this.#allChannels);
    for (const word of splitSpace(rule.slice(1, -1))) {
      if (!selector.apply(word)) throw new AclError('Syntax error');
    }
    this.selectors.push(selector);
  }

  #password(rule: string): void {
    const value = rule.slice(1);
    const hashed = rule[0] === '#' || rule[0] === '!';
    if (hashed && !/^[0-9a-f]{64}$/.test(value)) {
      throw new AclError(
        'The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters',
      );
    }
    const hash = hashed
      ? value
      : createHash('sha256').update(Buffer.from(value, 'latin1')).digest('hex');
    if (rule[0] === '>' || rule[0] === '#') {
      this.passwords.add(hash);
      this.nopass = false;
    } else if (!this.passwords.delete(hash)) {
      throw new AclError('The password you are trying to remove from the user does not exist');
    }
  }
}

/** The words of a line of bytes. */
export function splitSpace(bytes: string): string[] {
  return bytes.split(/[ \t-\r]+/).filter((word) => word !== '');
}

/** The order of the checks: the command, then its keys, then its channels. */
function progress(refusal: Refusal): number {
  if (refusal.reason === 'command') return 0;
  return (refusal.reason === 'key' ? 0 : 2 ** 32) + refusal.argument;
}

/** Joins `(` ... `)` that were given as several arguments. Throws AclError on a missing parenthesis. */
export function joinSelectors(words: readonly string[]): string[] {
  const joined: string[] = [];
  let open: string | null = null;
  for (const word of words) {
    if (open !== null) open += ` ${word}`;
    else if (word[0] === '(') open = word;
    else joined.push(word);
    if (open?.endsWith(')')) {
      joined.push(open);
      open = null;
    }
  }
  if (open !== null)
    throw new AclError(`Unmatched parenthesis in acl selector starting at '${open}'.`);
  return joined;
}

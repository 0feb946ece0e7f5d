/**
 * The configuration of one server: values by name, and watchers that are called after a change.
 *
 * Values are bytes, one per character (latin1), as files and clients gave them. `path` and `shown` decode
 * them for opening files and for people.
 * Invariant: every value is in its canonical form, and `change` applies all of its pairs or none.
 * Cost: a look-up in a Map. Code on the hot path keeps a copy through `watch`.
 */
import { globMatches } from '../../util/glob.ts';
import { nearestName } from '../../util/nearest-name.ts';
import { lowerCase } from '../command/quoting.ts';
import { PARAMETERS, type Parameter } from './config-parameters.ts';
import { ConfigError, canonical } from './config-values.ts';

export type Watcher = (value: string) => void;

export class Config {
  /** The file CONFIG REWRITE rewrites; empty when the server was started without one. */
  file = '';
  /** `user` lines of the file, as words (bytes) behind the directive. */
  readonly users: string[][] = [];
  /** `rename-command` lines: a command's name and its new one, empty = none. */
  readonly renamedCommands: [command: string, name: string][] = [];
  /** Directives and flags that were given and have no effect here, in their order. */
  readonly inert = new Set<string>();
  /** Where a parameter was given last: `redis.conf:12`, `--port`. */
  readonly #origins = new Map<string, string>();
  readonly #values = new Map<string, string>();
  readonly #numbers = new Map<string, number>();
  readonly #watchers = new Map<string, Watcher[]>();

  constructor() {
    for (const parameter of PARAMETERS) this.#store(parameter, parameter.default);
  }

  get(name: string): string {
    const value = this.#values.get(name);
    if (value === undefined) throw new Error(`there is no parameter '${name}'`);
    return value;
  }

  /** An integer or a number of bytes; beyond 2^53 it is rounded, as `get` is not. */
  number(name: string): number {
    const number = this.#numbers.get(name)!;
    // NaN: a share of maxmemory.
    if (!Number.isNaN(number)) return number;
    const share = Number.parseInt(this.get(name), 10) / 100;
    return Math.floor(this.number('maxmemory') * share);
  }

  /** A value that names a file. Throws where its bytes are no UTF-8. */
  path(name: string): string {
    const path = shown(this.get(name));
    if (path.includes('\ufffd')) throw new Error(`'${name}' is not valid UTF-8: '${path}'`);
    return path;
  }

  yes(name: string): boolean {
    return this.get(name) === 'yes';
  }

  isDefault(name: string): boolean {
    return this.get(name) === canonicalDefault(parameterOf(name)!);
  }

  /** Sets any parameter, before the server runs. Throws ConfigError with Redis's reason. */
  assign(name: string, words: readonly string[], origin = ''): void {
    const parameter = parameterOf(name);
    if (parameter === undefined) throw new ConfigError(unknownText(name));
    this.#store(parameter, canonical(parameter, words, this.get(parameter.name)));
    this.#origins.set(parameter.name, origin);
    if (parameter.inert) this.inert.add(parameter.name);
  }

  /** Where the value was given before the start: `redis.conf:12` or `--port`; empty = nowhere. */
  origin(name: string): string {
    return this.#origins.get(name) ?? '';
  }

  /**
   * Throws when a value is refused (`Parameter.refuse`). Called when file and flags have been read: a later
   * line or flag may have replaced the value.
   */
  checkObeyed(): void {
    for (const parameter of PARAMETERS) {
      const value = this.get(parameter.name);
      const why = parameter.refuse?.(value) ?? null;
      if (why === null) continue;
      const origin = this.origin(parameter.name);
      const where = origin === '' ? '' : `${origin}: `;
      throw new ConfigError(`${where}'${parameter.name} ${shown(value)}': ${why}`);
    }
  }

  /** Sets a value that the server has determined itself, such as the free port that it was given. */
  note(name: string, value: string): void {
    this.#store(parameterOf(name)!, value);
  }

  /**
   * Calls `watcher` now and after every change; once per change when it watches several parameters.
   * It may throw to refuse a new value.
   */
  watch(name: string, watcher: Watcher): void {
    const list = this.#watchers.get(name);
    if (list === undefined) this.#watchers.set(name, [watcher]);
    else list.push(watcher);
    watcher(this.get(name));
  }

  /** CONFIG SET: all pairs or none. Throws ConfigError with the whole reply text. */
  change(pairs: readonly (readonly [name: string, value: string])[], privileged: boolean): void {
    const seen = new Set<string>();
    const next: { parameter: Parameter; name: string; value: string; old: string }[] = [];
    for (const [name, text] of pairs) {
      const parameter = parameterOf(name);
      if (parameter === undefined) {
        throw new ConfigError(
          `ERR Unknown option or number of arguments for CONFIG SET - '${name}'`,
        );
      }
      const refuse = (why: string) => failed(name, why);
      if (parameter.mutable === false) throw refuse("can't set immutable config");
      if (parameter.mutable === 'protected' && !privileged) {
        throw refuse("can't set protected config");
      }
      if (seen.has(parameter.name)) throw refuse('duplicate parameter');
      seen.add(parameter.name);
      const old = this.get(parameter.name);
      let value: string;
      try {
        value = canonical(parameter, [text], old);
      } catch (error) {
        throw refuse((error as Error).message);
      }
      const why = parameter.refuse?.(value) ?? null;
      if (why !== null) throw refuse(why);
      next.push({ parameter, name, old, value });
    }
    for (const { parameter, value } of next) this.#store(parameter, value);
    let name = '';
    try {
      this.#announce(next, (each) => {
        name = each;
      });
    } catch (error) {
      for (const { parameter, old } of next) this.#store(parameter, old);
      this.#announce(next, () => {});
      throw failed(name, (error as Error).message);
    }
  }

  /** CONFIG GET: names and values matching any of the globs, by name; aliases included. */
  matching(globs: readonly string[]): [name: string, value: string][] {
    const found: [string, string][] = [];
    const patterns = globs.map((glob) => Buffer.from(lowerCase(glob), 'latin1'));
    for (const parameter of PARAMETERS) {
      for (const name of [parameter.name, parameter.alias]) {
        if (name === undefined) continue;
        const bytes = Buffer.from(name);
        if (patterns.some((pattern) => globMatches(pattern, bytes))) {
          found.push([name, this.get(parameter.name)]);
        }
      }
    }
    return found.sort(([a], [b]) => (a < b ? -1 : 1));
  }

  /** Calls every watcher of these parameters once, when all of them have their values. */
  #announce(
    changes: readonly { parameter: Parameter; name: string }[],
    before: (name: string) => void,
  ): void {
    const told = new Set<Watcher>();
    for (const { parameter, name } of changes) {
      before(name);
      for (const watcher of this.#watchers.get(parameter.name) ?? []) {
        if (told.has(watcher)) continue;
        told.add(watcher);
        watcher(this.get(parameter.name));
      }
    }
  }

  #store(parameter: Parameter, value: string): void {
    this.#values.set(parameter.name, value);
    if (parameter.kind === 'integer' || parameter.kind === 'memory') {
      this.#numbers.set(parameter.name, value.endsWith('%') ? Number.NaN : Number(value));
    }
  }
}

function failed(name: string, why: string): ConfigError {
  return new ConfigError(`ERR CONFIG SET failed (possibly related to argument '${name}') - ${why}`);
}

/** Bytes as text for people: UTF-8. */
export function shown(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString();
}

/** Text as bytes, one per character: what `shown` decodes. */
export function bytesOf(text: string): string {
  return Buffer.from(text).toString('latin1');
}

const BY_NAME = new Map<string, Parameter>();
for (const parameter of PARAMETERS) {
  BY_NAME.set(parameter.name, parameter);
  if (parameter.alias !== undefined) BY_NAME.set(parameter.alias, parameter);
}

/** The row of this name or alias, in any case. */
export function parameterOf(name: string): Parameter | undefined {
  return BY_NAME.get(lowerCase(name));
}

function canonicalDefault(parameter: Parameter): string {
  return parameter.default;
}

/** `unknown parameter 'prot'; did you mean 'port'?` */
export function unknownText(name: string): string {
  const most = Math.max(2, Math.floor(name.length / 3));
  const near = nearestName(lowerCase(name), BY_NAME.keys(), most);
  return `unknown parameter '${shown(name)}'${near === null ? '' : `; did you mean '${near}'?`}`;
}

/**
 * Values that only admins see: `--mask json.card,header.authorization`.
 *
 * `json.a.b` names a value in a decoded body; lists on the way are gone through, `*` is any name. Names of
 * headers are compared without case.
 * Invariant: what is masked is masked before anything is shown, filtered or cut; a body that cannot be
 * decoded is hidden as a whole while a `json.` mask is set, because its contents are unknown.
 */
import { RivuletError } from '../../errors.ts';

const MASKED = '***';

export class Masks {
  readonly paths: readonly string[];
  readonly #json: readonly (readonly string[])[];
  readonly #headers: ReadonlySet<string>;

  constructor(paths: readonly string[]) {
    const json: string[][] = [];
    const headers = new Set<string>();
    for (const path of paths) {
      const [place, ...parts] = path.split('.');
      if (place === 'header' && parts.length > 0) headers.add(parts.join('.').toLowerCase());
      else if (place === 'json' && parts.length > 0 && !parts.includes('')) json.push(parts);
      else {
        throw new RivuletError(
          'INVALID_ARGUMENT',
          `a mask is json.name or header.name, not ${JSON.stringify(path)}`,
        );
      }
    }
    this.paths = paths;
    this.#json = json;
    this.#headers = headers;
  }

  get hidesBodies(): boolean {
    return this.#json.length > 0;
  }

  header(name: string, value: string): string {
    return this.#headers.has(name.toLowerCase()) ? MASKED : value;
  }

  /** Masks a value that nothing else holds. True when something was masked. */
  apply(value: unknown): boolean {
    let isMasked = false;
    for (const path of this.#json) isMasked = cover(value, path, 0) || isMasked;
    return isMasked;
  }

  /** Masks every object within a value that nothing else holds, as if each were a body: for records. */
  applyWithin(value: unknown): void {
    const open = [value];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (typeof next !== 'object' || next === null) continue;
      this.apply(next);
      for (const each of Object.values(next)) if (typeof each === 'object') open.push(each ?? '');
    }
  }
}

export const NO_MASKS = new Masks([]);

function cover(value: unknown, path: readonly string[], at: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  let isMasked = false;
  if (Array.isArray(value)) {
    for (const each of value) isMasked = cover(each, path, at) || isMasked;
    return isMasked;
  }
  const of = value as Record<string, unknown>;
  const names = path[at] === '*' ? Object.keys(of) : [path[at]!];
  for (const name of names) {
    if (!Object.hasOwn(of, name)) continue;
    if (at + 1 < path.length) isMasked = cover(of[name], path, at + 1) || isMasked;
    else {
      Object.defineProperty(of, name, {
        value: MASKED,
        writable: true,
        enumerable: true,
        configurable: true,
      });
      isMasked = true;
    }
  }
  return isMasked;
}

/**
 * Texts of configuration values: checked, and brought into the form CONFIG GET shows.
 *
 * Error texts are Redis's (config.c).
 */
import { LLONG, type Parameter } from './config-parameters.ts';

/** A value that was refused, and Redis's reason. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * The canonical form of `words` (one value, or several words of a line) for this parameter.
 * `current` is the value so far: a parameter with parts may be given only some of them.
 * Throws ConfigError.
 */
export function canonical(
  parameter: Parameter,
  words: readonly string[],
  current = parameter.default,
): string {
  const value = words.join(' ');
  switch (parameter.kind) {
    case 'yes-no':
      return yesNo(parameter, value);
    case 'integer':
      return integer(parameter, value);
    case 'memory':
      return memoryValue(parameter, value);
    case 'enum':
      return oneOf(parameter, value);
    case 'special':
      return SPECIAL[parameter.name]!(
        words.flatMap((word) => word.split(/\s+/).filter(Boolean)),
        current,
      );
    default:
      return text(parameter, value);
  }
}

/** `1gb`, `64k`, `100`: bytes, or null. Redis: k = 1000, kb = 1024. */
export function memory(text: string): number | null {
  const match = /^(-?\d+)(b|k|kb|m|mb|g|gb)?$/i.exec(text.trim());
  if (match === null) return null;
  return Number(match[1]) * UNITS[(match[2] ?? 'b').toLowerCase()]!;
}

const UNITS: Record<string, number> = {
  b: 1,
  k: 1000,
  kb: 1024,
  m: 1000 ** 2,
  mb: 1024 ** 2,
  g: 1000 ** 3,
  gb: 1024 ** 3,
};

function yesNo(parameter: Parameter, value: string): string {
  const lower = value.toLowerCase();
  if (lower !== 'yes' && lower !== 'no') throw new ConfigError("argument must be 'yes' or 'no'");
  if (parameter.values && !parameter.values.includes(lower)) {
    throw new ConfigError(`only '${parameter.values[0]}' is supported`);
  }
  return lower;
}

function integer(parameter: Parameter, value: string): string {
  if (parameter.name === 'unixsocketperm') return permission(value);
  if (!/^-?\d{1,19}$/.test(value)) {
    throw new ConfigError("argument couldn't be parsed into an integer");
  }
  checkRange(parameter, Number(value));
  return String(BigInt(value));
}

/** Octal digits, shown as written. */
function permission(value: string): string {
  if (!/^0?[0-7]{1,3}$/.test(value)) {
    throw new ConfigError("argument couldn't be parsed into an integer");
  }
  return value;
}

function memoryValue(parameter: Parameter, value: string): string {
  const bytes = memory(value);
  if (bytes === null || value.startsWith('-')) {
    throw new ConfigError('argument must be a memory value');
  }
  checkRange(parameter, bytes);
  return String(bytes);
}

function checkRange(parameter: Parameter, value: number): void {
  const min = parameter.min ?? -LLONG;
  const max = parameter.max ?? LLONG;
  if (value >= min && value <= max) return;
  throw new ConfigError(`argument must be between ${bound(min)} and ${bound(max)} inclusive`);
}

function bound(value: number): string {
  if (value >= LLONG) return '9223372036854775807';
  if (value <= -LLONG) return '-9223372036854775808';
  return String(value);
}

function oneOf(parameter: Parameter, value: string): string {
  const lower = value.toLowerCase();
  if (!parameter.values!.includes(lower)) {
    throw new ConfigError(
      `argument(s) must be one of the following: ${parameter.values!.join(', ')}`,
    );
  }
  return lower;
}

function text(parameter: Parameter, value: string): string {
  if (parameter.values && !parameter.values.includes(value)) {
    throw new ConfigError('not supported by this server');
  }
  return value;
}

const SPECIAL: Record<string, (words: string[], current: string) => string> = {
  save(words) {
    if (words.length === 0 || (words.length === 1 && words[0] === '""')) return '';
    const whole = words.every((word) => /^\d+$/.test(word));
    if (words.length % 2 !== 0 || !whole) throw new ConfigError('Invalid save parameters');
    for (let i = 0; i < words.length; i += 2) {
      if (Number(words[i]) < 1) throw new ConfigError('Invalid save parameters');
    }
    return words.join(' ');
  },

  'notify-keyspace-events'(words) {
    const given = words.join('');
    if (!/^[Ag$lshzxeKEtmdn]*$/.test(given)) {
      throw new ConfigError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
    }
    return eventClasses(given);
  },

  'client-output-buffer-limit'(words, current) {
    if (words.length === 0 || words.length % 4 !== 0) {
      throw new ConfigError('Wrong number of arguments in buffer limit configuration.');
    }
    const limits = new Map(CLASSES.map((name) => [name, classPart(current, name)]));
    for (let i = 0; i < words.length; i += 4) {
      const name = words[i]!.toLowerCase();
      if (!['normal', 'slave', 'replica', 'pubsub'].includes(name)) {
        throw new ConfigError('Invalid client class specified in buffer limit configuration.');
      }
      const hard = memory(words[i + 1]!);
      const soft = memory(words[i + 2]!);
      const seconds = Number(words[i + 3]);
      if (hard === null || soft === null || hard < 0 || soft < 0 || !/^\d+$/.test(words[i + 3]!)) {
        throw new ConfigError(
          'Error in hard, soft or soft_seconds setting in buffer limit configuration.',
        );
      }
      limits.set(name === 'replica' ? 'slave' : name, `${hard} ${soft} ${seconds}`);
    }
    return CLASSES.map((name) => `${name} ${limits.get(name)}`).join(' ');
  },
};

const CLASSES: readonly string[] = ['normal', 'slave', 'pubsub'];

function classPart(value: string, name: string): string {
  const words = value.split(' ');
  const at = words.indexOf(name);
  return words.slice(at + 1, at + 4).join(' ');
}

/** Redis's keyspaceEventsFlagsToString: `A` for all classes, classes first, then K and E. */
function eventClasses(given: string): string {
  const all = 'g$lshzxetd';
  const set = new Set(given);
  if (set.has('A')) for (const c of all) set.add(c);
  let shown = [...all].every((c) => set.has(c)) ? 'A' : [...all].filter((c) => set.has(c)).join('');
  for (const c of 'KEmn') if (set.has(c)) shown += c;
  return shown;
}

/** One class's limits out of the canonical client-output-buffer-limit. */
export function outputLimit(value: string, name: 'normal' | 'slave' | 'pubsub'): OutputLimit {
  const [hard, soft, softSeconds] = classPart(value, name).split(' ').map(Number) as [
    number,
    number,
    number,
  ];
  return { hard, soft, softSeconds };
}

/** Bytes; 0 = no limit. */
export interface OutputLimit {
  readonly hard: number;
  readonly soft: number;
  readonly softSeconds: number;
}

/**
 * Checks the texts of configuration values, and converts them to the form that CONFIG GET shows.
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
 * `current` is the present value: a parameter with parts may be given only some of them.
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
      return parameter.percent && value.endsWith('%') && value.length > 1
        ? percent(value)
        : memoryValue(parameter, value);
    case 'enum':
      return oneOf(parameter, value);
    case 'special':
      return SPECIAL[parameter.name]!(
        words.flatMap((word) => word.split(/\s+/).filter(Boolean)),
        current,
      );
    default:
      return value;
  }
}

/** `1gb`, `64k`, `100`: bytes, exact, or null. Redis: k = 1000, kb = 1024. */
function memory(text: string): bigint | null {
  const match = /^(\d{0,127})(b|k|kb|m|mb|g|gb)?$/i.exec(text);
  if (match === null) return null;
  return BigInt(match[1] || '0') * BigInt(UNITS[(match[2] ?? 'b').toLowerCase()]!);
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
  const number = /^(0|-?[1-9]\d{0,18})$/.test(value) ? BigInt(value) : null;
  if (number === null || BigInt.asIntN(64, number) !== number) {
    throw new ConfigError("argument couldn't be parsed into an integer");
  }
  checkRange(parameter, number);
  const [least, greatest] = parameter.clamp ?? [-LLONG, LLONG];
  if (number < least) return String(least);
  return number > greatest ? String(greatest) : String(number);
}

/** Octal digits, shown as written. */
function permission(value: string): string {
  if (!/^0?[0-7]{1,3}$/.test(value)) {
    throw new ConfigError("argument couldn't be parsed as an octal number");
  }
  return value;
}

function memoryValue(parameter: Parameter, value: string): string {
  const bytes = memory(value);
  if (bytes === null) {
    throw new ConfigError(
      `argument must be a memory ${parameter.percent ? 'or percent ' : ''}value`,
    );
  }
  checkRange(parameter, bytes);
  return String(bytes);
}

/** A share of maxmemory, as `5%`. */
function percent(value: string): string {
  const share = /^(0|[1-9]\d{0,17})%$/.exec(value);
  if (share === null) throw new ConfigError('argument must be a memory or percent value');
  if (BigInt(share[1]!) > 100n) {
    throw new ConfigError('percentage argument must be less or equal to 100');
  }
  return share[1] === '0' ? '0' : value;
}

function checkRange(parameter: Parameter, value: bigint): void {
  const min = bound(parameter.min ?? -LLONG);
  const max = bound(parameter.max ?? LLONG);
  if (value >= min && value <= max) return;
  throw new ConfigError(`argument must be between ${min} and ${max} inclusive`);
}

/** JavaScript numbers cannot hold the greatest 64-bit integers: their rows give the next power of two. */
function bound(value: number): bigint {
  return value >= LLONG ? BigInt(value) - 1n : BigInt(value);
}

function oneOf(parameter: Parameter, value: string): string {
  const lower = value.toLowerCase();
  const { values, refusedValues } = parameter;
  if (!values!.includes(lower) && !refusedValues?.includes(lower)) {
    throw new ConfigError(`argument(s) must be one of the following: ${values!.join(', ')}`);
  }
  return lower;
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

  'latency-tracking-info-percentiles'(words) {
    if (words.length === 1 && words[0] === '""') return '';
    const shares = words.map((word) => {
      if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?$/i.test(word)) {
        throw new ConfigError('Invalid latency-tracking-info-percentiles parameters');
      }
      const share = Number(word);
      if (share < 0 || share > 100) {
        throw new ConfigError(
          'latency-tracking-info-percentiles parameters should sit between [0.0,100.0]',
        );
      }
      return String(Number(share.toFixed(6)));
    });
    return shares.join(' ');
  },

  'oom-score-adj-values'(words) {
    if (words.length !== 3) throw new ConfigError('wrong number of arguments');
    for (const word of words) {
      if (!/^[+-]?\d{1,9}$/.test(word) || Math.abs(Number(word)) > 2000) {
        throw new ConfigError(
          'Invalid oom-score-adj-values, elements must be between -2000 and 2000.',
        );
      }
    }
    return words.map(Number).join(' ');
  },

  'shutdown-on-sigterm': shutdownWords,
  'shutdown-on-sigint': shutdownWords,

  replicaof(words) {
    if (words.length === 2 && words.join(' ').toLowerCase() === 'no one') return '';
    if (words.length === 0) return '';
    if (words.length !== 2) throw new ConfigError('wrong number of arguments');
    return words.join(' ');
  },

  'client-output-buffer-limit'(words, current) {
    if (words.length % 4 !== 0) {
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
      const seconds = words[i + 3]!;
      if (hard === null || soft === null || !/^\d{1,15}$/.test(seconds)) {
        throw new ConfigError(
          'Error in hard, soft or soft_seconds setting in buffer limit configuration.',
        );
      }
      limits.set(name === 'replica' ? 'slave' : name, `${hard} ${soft} ${Number(seconds)}`);
    }
    return CLASSES.map((name) => `${name} ${limits.get(name)}`).join(' ');
  },
};

const SHUTDOWN_WORDS = ['default', 'save', 'nosave', 'now', 'force'];

/** shutdown-on-sigterm and -sigint: `default`, or what SHUTDOWN would be given. */
function shutdownWords(words: string[]): string {
  const set = new Set(words.map((word) => word.toLowerCase()));
  if (set.size === 0 || [...set].some((word) => !SHUTDOWN_WORDS.includes(word))) {
    throw new ConfigError(`argument(s) must be one of the following: ${SHUTDOWN_WORDS.join(', ')}`);
  }
  if (set.has('save') && set.has('nosave')) {
    throw new ConfigError("shutdown options SAVE and NOSAVE can't be used simultaneously");
  }
  const shown = SHUTDOWN_WORDS.slice(1).filter((word) => set.has(word));
  return shown.length === 0 ? 'default' : shown.join(' ');
}

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

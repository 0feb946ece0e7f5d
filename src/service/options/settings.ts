/**
 * The settings of a service: each option's value, and where it came from.
 *
 * Invariant: code gives way to `MICRO_*` variables, and both to flags, which is go-micro's order; a
 * variable or flag that cannot be read is INVALID_ARGUMENT with its name. Flags of other names belong
 * to the program and are left alone. Cost: made once per service.
 */
import { splitAddresses, withoutPassword, withoutPasswords } from '../../broker/addresses.ts';
import { checkOptions, invalid } from '../../client/option-table.ts';
import {
  type OutsideNames,
  SETTINGS,
  type ServiceOptions,
  type SettingName,
  type SettingRow,
  serviceTable,
} from './options.ts';

/** One option as the service runs with it. */
export interface Setting<Value = unknown> {
  readonly value: Value;
  /** `default`, `code`, or the name of the variable (`MICRO_SERVER_NAME`) or flag (`--server_name`). */
  readonly from: string;
}

export type ServiceSettings = {
  readonly [Name in Exclude<SettingName, 'environment' | 'args'>]: Setting<
    ServiceOptions[Name] | undefined
  >;
};

/** Nouns whose URL may be split in two: a name, and an address. */
const SPLIT = { broker: 'rivulet', registry: 'etcd', transport: '' } as const;

export function resolveSettings(options: ServiceOptions): ServiceSettings {
  checkOptions(serviceTable, options);
  const environment = options.environment ?? process.env;
  const flags = flagsOf(options.args ?? process.argv.slice(2));
  const made: Partial<Record<SettingName, Setting>> = {};
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    if (name === 'environment' || name === 'args') continue;
    const { fallback, outside } = SETTINGS[name] as SettingRow;
    const value = options[name];
    let setting: Setting =
      value === undefined ? { value: fallback, from: 'default' } : { value, from: 'code' };
    if (outside !== undefined) {
      setting = fromEnvironment(name, outside, environment) ?? setting;
      setting = fromFlags(name, outside, flags) ?? setting;
    }
    made[name] = setting;
  }
  checkIntervals(made);
  return made as ServiceSettings;
}

/** Settings as they may be shown: no URL with a password in it. */
export function shownSettings(settings: ServiceSettings): ServiceSettings {
  const entries = Object.entries(settings).map(([name, { value, from }]) => [
    name,
    // Of certificates and keys only the names.
    Object.freeze({
      value: name === 'tls' && value ? Object.keys(value) : shownValue(value),
      from,
    }),
  ]);
  return Object.freeze(Object.fromEntries(entries));
}

function shownValue(value: unknown): unknown {
  if (typeof value === 'string' && value.includes('://')) {
    return withoutPasswords(value);
  }
  return Array.isArray(value) ? value.map(shownValue) : value;
}

function fromEnvironment(
  name: SettingName,
  { variable, parse }: OutsideNames,
  environment: Readonly<Record<string, string | undefined>> | false,
): Setting | null {
  if (environment === false) return null;
  const given = environment[variable];
  const address = name in SPLIT ? environment[`${variable}_ADDRESS`] : undefined;
  // An empty variable is one that was not set, as in go-micro.
  return outsideSetting(name, variable, parse, given || undefined, address || undefined);
}

function fromFlags(
  name: SettingName,
  { flag, parse }: OutsideNames,
  flags: ReadonlyMap<string, string>,
): Setting | null {
  const address = name in SPLIT ? flags.get(`${flag}_address`) : undefined;
  return outsideSetting(name, `--${flag}`, parse, flags.get(flag), address);
}

function outsideSetting(
  name: SettingName,
  from: string,
  parse: (text: string) => unknown,
  given: string | undefined,
  address: string | undefined,
): Setting | null {
  if (given === undefined && address === undefined) return null;
  const text = joined(name, given, address);
  try {
    const value = parse(text);
    checkOptions(serviceTable, { [name]: value });
    return { value, from };
  } catch (cause) {
    // A URL may hold a password.
    const what = text.includes('://') ? withoutPassword(text) : text.slice(0, 100);
    throw invalid(`${from}=${JSON.stringify(what)}: ${(cause as Error).message}`);
  }
}

/** `nats` and `10.0.0.5:4222` are `nats://10.0.0.5:4222`. */
function joined(name: SettingName, given: string | undefined, address: string | undefined): string {
  if (address === undefined || given?.includes(':')) return given as string;
  if (address.includes('://')) return address;
  const scheme = given ?? SPLIT[name as keyof typeof SPLIT];
  // A transport listens where the server's address says.
  if (name === 'transport') return given ?? 'auto';
  // A comma may belong to a password.
  return splitAddresses(`${scheme}://${address}`).join(',');
}

/** `--name value` and `--name=value`, one or two dashes, as Go's flags are. */
function flagsOf(args: readonly string[] | false): Map<string, string> {
  const flags = new Map<string, string>();
  if (args === false) return flags;
  for (let index = 0; index < args.length; index++) {
    const [, name, equals, value = ''] = /^--?([a-z][a-z0-9_]*)(=(.*))?$/s.exec(
      args[index] as string,
    ) ?? [undefined, undefined];
    if (name === undefined) continue;
    if (equals !== undefined) flags.set(name, value);
    else if (index + 1 < args.length && !(args[index + 1] as string).startsWith('--')) {
      flags.set(name, args[index + 1] as string);
    }
  }
  return flags;
}

function checkIntervals(made: Partial<Record<SettingName, Setting>>): void {
  const ttl = made.registerTtlMs as Setting<number>;
  const interval = made.registerIntervalMs as Setting<number>;
  if (interval.value < ttl.value) return;
  if (interval.from !== 'default') {
    throw invalid(
      `registerIntervalMs (${interval.value}) must be below registerTtlMs (${ttl.value}), or the node disappears between renewals`,
    );
  }
  made.registerIntervalMs = { value: Math.max(1, Math.floor(ttl.value / 3)), from: 'default' };
}

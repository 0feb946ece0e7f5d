/**
 * The static registry: nodes that are known beforehand, and what registers itself beside them.
 *
 * Invariant: a fixed node never expires and cannot be deregistered by a service that runs on it, so
 * that a service behind a known address stays known while it restarts. Cost: see node-table.ts.
 */
import { RivuletError } from '../errors.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { systemScheduler } from '../util/time/system-scheduler.ts';
import { MemoryRegistry } from './memory.ts';
import type { NodeTable } from './node-table.ts';
import { checkRecord, mergeRecords } from './record.ts';
import type { ServiceRecord } from './registry.ts';

export class StaticRegistry extends MemoryRegistry {
  override readonly name = 'static';
  readonly #fixed: readonly ServiceRecord[];

  constructor(
    fixed: readonly ServiceRecord[],
    scheduler: Scheduler = systemScheduler,
    table?: NodeTable,
  ) {
    super(scheduler, table);
    for (const record of fixed) checkRecord(record);
    this.#fixed = mergeRecords(structuredClone(fixed));
  }

  override async getService(name: string): Promise<ServiceRecord[]> {
    const fixed = this.#fixed.filter((record) => record.name === name);
    return mergeRecords([...fixed, ...this.table.get(name)]);
  }

  override async listServices(): Promise<ServiceRecord[]> {
    return mergeRecords([...this.#fixed, ...this.table.list()]);
  }
}

/**
 * The records of `static:users=10.0.0.5:40001,10.0.0.6:40001;orders=10.0.0.7:40001`.
 * Throws INVALID_ARGUMENT with the part that cannot be read.
 */
export function parseStaticRecords(text: string): ServiceRecord[] {
  return text
    .split(';')
    .filter((part) => part !== '')
    .map((part) => {
      const at = part.indexOf('=');
      const name = part.slice(0, Math.max(0, at));
      const addresses = part.slice(at + 1).split(',');
      if (at <= 0) {
        const advice = 'write service=host:port,host:port;service=host:port';
        throw new RivuletError('INVALID_ARGUMENT', `${JSON.stringify(part)}: ${advice}`);
      }
      const record: ServiceRecord = {
        name,
        version: 'latest',
        metadata: {},
        endpoints: [],
        nodes: addresses.map((address) => ({ id: `${name}-${address}`, address, metadata: {} })),
      };
      checkRecord(record);
      return record;
    });
}

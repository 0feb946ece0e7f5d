/**
 * What the storage tests share: a program on a simulated disk that writes numbered records, knows
 * which of them were acknowledged, crashes, and reads back.
 */
import assert from 'node:assert/strict';
import { Log, type LogOptions } from '../../src/storage/log/log.ts';
import { type RecoveryReport, recoverLog } from '../../src/storage/log/recovery.ts';
import { Random } from '../../src/util/random.ts';
import { ManualClock } from '../../src/util/time/clock.ts';
import type { SimulatedDisk } from '../helpers/simulated-disk.ts';

export const DIRECTORY = 'data';

export interface Read {
  readonly serial: number;
  readonly position: number;
  readonly body: Buffer;
}

/** A log on a simulated disk; records carry a serial number and bytes that depend on it. */
export class Writer {
  readonly disk: SimulatedDisk;
  readonly clock = new ManualClock();
  readonly random: Random;
  log: Log;
  serial = 0;
  readonly options: Partial<LogOptions>;

  constructor(disk: SimulatedDisk, seed: number, options: Partial<LogOptions> = {}) {
    this.disk = disk;
    this.random = new Random(seed);
    this.options = options;
    this.log = this.#newLog();
  }

  #newLog(): Log {
    return new Log({
      disk: this.disk,
      directory: DIRECTORY,
      clock: this.clock,
      random: this.random,
      firstSegmentBytes: 8 * 1024,
      segmentBytes: 32 * 1024,
      reserveBytes: 0,
      ...this.options,
    });
  }

  /** Reads what is there and starts a new log after it, as a restart does. */
  async open(from = 0): Promise<{ report: RecoveryReport; records: Read[] }> {
    const result = await readBack(this.disk, from);
    this.log = this.#newLog();
    await this.disk.finish(this.log.start(result.report.position, result.report.segments));
    const last = result.records.at(-1);
    if (last !== undefined) this.serial = last.serial + 1;
    return result;
  }

  append(length = this.random.below(200)): number {
    const serial = this.serial++;
    const writer = this.log.begin(1 + (serial % 255));
    writer.f64(serial);
    for (let i = 0; i < length; i++) writer.u8(serial % 3 === 0 ? 0 : (serial + i) & 255);
    this.log.end();
    return serial;
  }
}

export async function readBack(
  disk: SimulatedDisk,
  from = 0,
): Promise<{ report: RecoveryReport; records: Read[] }> {
  const records: Read[] = [];
  const report = await disk.finish(
    recoverLog({
      disk,
      directory: DIRECTORY,
      from,
      visit(type, body, position) {
        const serial = body.f64();
        assert.equal(type, 1 + (serial % 255));
        const bytes = Buffer.from(body.raw(body.end - body.at));
        for (let i = 0; i < bytes.length; i++) {
          assert.equal(bytes[i], serial % 3 === 0 ? 0 : (serial + i) & 255);
        }
        records.push({ serial, position, body: bytes });
      },
    }),
  );
  return { report, records };
}

export function assertConsecutive(records: readonly Read[], first = records[0]?.serial): void {
  records.forEach((record, i) => {
    assert.equal(record.serial, first + i);
  });
}

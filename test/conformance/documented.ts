/** The table of capabilities in README, which the suite's runs compare with what brokers claim. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Capabilities } from '../../src/broker/capabilities.ts';
import { capabilityColumn, columnIn } from '../../src/conformance/index.ts';
import { repositoryRoot } from '../house/source-file.ts';

export const README = join(repositoryRoot, 'README.md');
export const TABLE = /(<!-- capabilities:.*?-->\n)(.*?)(\n<!-- \/capabilities -->)/s;

/**
 * The check that the column of that name says what a connected broker claims, but for what it is known
 * to claim otherwise.
 */
export function documented(
  name: string,
  otherwise: Partial<Capabilities> = {},
  column: Partial<Capabilities> = {},
): (claimed: Readonly<Capabilities>) => void {
  return (connected) => {
    const differing = Object.keys(otherwise) as (keyof Capabilities)[];
    for (const key of differing) assert.deepEqual(connected[key], otherwise[key], key);
    const claimed = { ...connected, ...column };
    const table = TABLE.exec(readFileSync(README, 'utf8'))?.[2]?.split('\n') ?? [];
    const hint = 'node scripts/capabilities.mjs writes the table again';
    assert.deepEqual(columnIn(table, name), capabilityColumn(claimed), hint);
  };
}

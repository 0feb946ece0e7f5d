/**
 * Capabilities as a table in Markdown: a column for each broker, a row for each capability.
 *
 * The documentation's table is written from this and compared with it when the suite runs, so that it
 * says exactly what connected brokers claim.
 */
import type { Capabilities } from '../broker/capabilities.ts';

const yesNo = (value: boolean) => (value ? 'yes' : 'no');

const rows: Readonly<Record<string, (claimed: Readonly<Capabilities>) => string>> = {
  'an acknowledged publish is': ({ durability }) => STORED[durability],
  'nack with a delay': ({ delayedNack }) => delayedNack,
  'delayed publish': ({ delayedPublish }) => delayedPublish,
  'dead letter and acknowledgement': ({ deadLetter }) => deadLetter,
  'publish ids are remembered': ({ dedup }) =>
    dedup === null ? 'no' : `${Math.round(dedup.windowMs / 1000)} s${idsOf(dedup.maxIds)}`,
  'a retried publish without an id is stored': ({ retriedPublish }) =>
    retriedPublish.replaceAll('-', ' '),
  'replay from an id': ({ replayById }) => yesNo(replayById),
  'replay from a time': ({ replayByTime }) => yesNo(replayByTime),
  'order per key, keys in parallel': ({ orderPerKey }) => yesNo(orderPerKey),
  'strict order': ({ strictOrder }) => yesNo(strictOrder),
  'bound on messages in flight': ({ maxInFlight }) => maxInFlight,
  'topics with wildcards': ({ wildcards }) => yesNo(wildcards),
  'request and reply': ({ requestReply }) => yesNo(requestReply),
  'list of pending messages': ({ pendingList }) => PENDING[pendingList],
  'an attempt is a': ({ attempts }) => (attempts === 'deliveries' ? 'delivery' : 'hand-over'),
  'a message trimmed while pending is': ({ trimmedPending }) => TRIMMED[trimmedPending],
  'extend the deadline': ({ extend }) => yesNo(extend),
  'messages wait for absent groups': ({ persistent }) => yesNo(persistent),
  'largest body': ({ maxBodyBytes }) => bytes(maxBodyBytes),
};

const STORED: Readonly<Record<Capabilities['durability'], string>> = {
  none: 'sent',
  memory: 'in memory',
  os: 'with the operating system',
  fsync: 'on disk',
  quorum: 'with a majority',
  'quorum-fsync': 'on the disks of a majority',
};

const PENDING: Readonly<Record<Capabilities['pendingList'], string>> = {
  entries: "the group's",
  own: "this process's",
  none: 'no',
};

const TRIMMED: Readonly<Record<Capabilities['trimmedPending'], string>> = {
  reported: 'reported',
  own: 'reported by the subscription that gave it back',
  kept: 'kept until it is settled',
  none: 'never there',
};

/** The cells of one broker's column, from the first row on. */
export function capabilityColumn(claimed: Readonly<Capabilities>): string[] {
  return Object.values(rows).map((cell) => cell(claimed));
}

/** The whole table, with its head. */
export function capabilityTable(
  claimed: Readonly<Record<string, Readonly<Capabilities>>>,
): string[] {
  const names = Object.keys(claimed);
  const columns = Object.values(claimed).map(capabilityColumn);
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [
    line(['', ...names.map((name) => `\`${name}\``)]),
    line(['---', ...names.map(() => '---')]),
    ...Object.keys(rows).map((row, at) => line([row, ...columns.map((cells) => cells[at] ?? '')])),
  ];
}

/** One broker's cells in a table made by `capabilityTable`; null where it has no such column. */
export function columnIn(table: readonly string[], name: string): string[] | null {
  const cells = table.map((line) => line.split('|').map((cell) => cell.trim()));
  const at = cells[0]?.indexOf(`\`${name}\``) ?? -1;
  return at < 0 ? null : cells.slice(2).map((row) => row[at] ?? '');
}

function idsOf(count: number): string {
  return count === Number.MAX_SAFE_INTEGER ? '' : `, ${count} ids`;
}

function bytes(count: number): string {
  const mebibytes = count / 2 ** 20;
  if (mebibytes >= 1024) return `${(mebibytes / 1024).toFixed(0)} GiB`;
  return mebibytes >= 10 ? `${mebibytes.toFixed(0)} MiB` : `${mebibytes.toFixed(1)} MiB`;
}

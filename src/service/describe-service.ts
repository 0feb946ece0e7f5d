/**
 * What people read about services: go-micro's texts of a service and of the health of its nodes.
 *
 * Invariants: texts of other programs are printed with their control characters escaped; a node that does
 * not answer has a row that says why. Cost: one call per node, all at once.
 */
import type { ServiceNode, ServiceRecord, ServiceValue } from '../registry/registry.ts';
import { printable } from '../util/printable.ts';

export interface NodeReport {
  readonly version: string;
  readonly id: string;
  readonly address: string;
  /** What the node answered; null where it did not. */
  readonly answer: Record<string, unknown> | null;
  readonly error: string | null;
}

/** Asks every node for a JSON object; `ask` calls the node at an address. */
export async function askNodes(
  records: readonly ServiceRecord[],
  ask: (address: string) => Promise<Uint8Array>,
): Promise<NodeReport[]> {
  const one = async (version: string, { id, address }: ServiceNode): Promise<NodeReport> => {
    try {
      const answer = JSON.parse(Buffer.from(await ask(address)).toString());
      return { version, id, address, answer, error: null };
    } catch (error) {
      return { version, id, address, answer: null, error: (error as Error).message };
    }
  };
  return Promise.all(
    records.flatMap(({ version, nodes }) => nodes.map((node) => one(version, node))),
  );
}

/** `ok`, or what the node says of itself, or why it does not answer. */
export function healthOf({ answer, error }: NodeReport): string {
  return error ?? String(answer?.status ?? 'ok');
}

export function healthText(service: string, reports: readonly NodeReport[]): string {
  return nodesText(service, reports, 'node\t\taddress:port\t\tstatus', (report) =>
    [report.id, report.address, healthOf(report)].map(printable).join('\t\t'),
  );
}

/** A table for each version, a row for each node. */
export function nodesText(
  service: string,
  reports: readonly NodeReport[],
  title: string,
  row: (report: NodeReport) => string,
): string {
  const versions = [...new Set(reports.map(({ version }) => version))];
  const parts = versions.map((version) => {
    const rows = reports.filter((report) => report.version === version).map(row);
    return `version ${printable(version)}\n\n${[title, ...rows].join('\n')}`;
  });
  return `service  ${printable(service)}\n\n${parts.join('\n\n')}`;
}

/** One version of a service, as go-micro's `micro get service` prints it. */
export function describeService({ name, version, nodes, endpoints }: ServiceRecord): string {
  const rows = nodes.map(({ id, address, metadata }) => {
    const pairs = Object.entries(metadata).map(([key, value]) => `${key}=${value}`);
    return printable(`${id}\t${address}\t${pairs.join(',')}`).replaceAll('\\t', '\t');
  });
  const parts = endpoints.map((endpoint) => {
    const metadata = Object.entries(endpoint.metadata).map(([key, value]) => `${key}=${value}`);
    return [
      `Endpoint: ${printable(endpoint.name)}`,
      ...(metadata.length === 0 ? [] : [`Metadata: ${printable(metadata.join(','))}`]),
      `Request: ${valueText(endpoint.request)}`,
      `Response: ${valueText(endpoint.response)}`,
    ].join('\n');
  });
  return [
    `service  ${printable(name)}`,
    `version ${printable(version)}`,
    ['ID\tAddress\tMetadata', ...rows].join('\n'),
    ...parts,
  ].join('\n\n');
}

/** go-micro's formatEndpoint: fields by their names and types, one level a tab. */
function valueText(value: ServiceValue | null): string {
  if (value === null || value.values.length === 0) return '{}';
  const fields = (values: readonly ServiceValue[], depth: number): string =>
    values
      .map((each) => {
        const tabs = '\t'.repeat(depth);
        if (each.values.length === 0)
          return `${tabs}${printable(each.name)} ${printable(each.type)}\n`;
        return `${tabs}${printable(each.name)} ${printable(each.type)} {\n${fields(each.values, depth + 1)}${tabs}}\n`;
      })
      .join('');
  return `{\n${fields(value.values, 1)}}`;
}

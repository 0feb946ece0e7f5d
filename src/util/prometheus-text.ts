/**
 * Prometheus's text format: one metric with its samples, as lines.
 *
 * Invariant: label values are escaped, so no name can break a line. Cost: linear in the samples.
 */
export type Labels = Readonly<Record<string, string>>;
export type Sample = readonly [labels: Labels, value: number, suffix?: string];

/** Appends nothing where there are no samples. */
export function metric(
  out: string[],
  name: string,
  type: 'counter' | 'gauge' | 'histogram',
  help: string,
  samples: readonly Sample[],
): void {
  if (samples.length === 0) return;
  out.push(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`);
  for (const [labels, value, suffix = ''] of samples) {
    const pairs = Object.entries(labels).map(([key, text]) => `${key}="${escapeLabel(text)}"`);
    const shown = pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
    out.push(`${name}${suffix}${shown} ${value}\n`);
  }
}

function escapeLabel(text: string): string {
  return text.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}

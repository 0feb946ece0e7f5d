/** Latencies as a person reads them: percentiles, and a plot of bars for a terminal. */

const BAR = 40;
const BUCKETS = 12;

/** Of sorted milliseconds; rounded to microseconds. */
export function percentiles(sorted: readonly number[]): Record<string, number> {
  const at = (share: number) => {
    const index = Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1);
    return Math.round((sorted[Math.max(0, index)] ?? 0) * 1000) / 1000;
  };
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1) };
}

/** One line for each range, each twice as wide as the one before. */
export function latencyPlot(sorted: readonly number[]): string {
  const [least = 0] = sorted;
  const most = sorted.at(-1) ?? 0;
  const limits: number[] = [];
  for (let limit = Math.max(least, 0.001); limits.length < BUCKETS; limit *= 2) {
    limits.push(limit);
    if (limit >= most) break;
  }
  if ((limits.at(-1) as number) < most) limits[limits.length - 1] = most;
  const counts = limits.map((limit, index) => {
    const from = index === 0 ? Number.NEGATIVE_INFINITY : (limits[index - 1] as number);
    return sorted.filter((ms) => ms > from && ms <= limit).length;
  });
  const highest = Math.max(1, ...counts);
  return counts
    .map((count, index) => {
      const label = `${(limits[index] as number).toFixed(3)} ms`.padStart(14);
      const bar = '#'.repeat(count === 0 ? 0 : Math.max(1, Math.round((count / highest) * BAR)));
      return `${label}  ${bar.padEnd(BAR)}  ${count}`.trimEnd();
    })
    .join('\n');
}

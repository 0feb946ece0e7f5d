/**
 * Numbers over time as lines: uPlot, loaded with the first chart, and a table of the same numbers.
 *
 * Invariants: series differ in their dashes and names, not only in their colours; colours are read from the
 * style sheet and again when the theme changes; the canvas has a sentence that says what it shows.
 */
import { useEffect, useRef, useState } from 'preact/hooks';
import type uPlot from 'uplot';
import type { Series } from '../../../src/console/api-types.ts';
import { bytes, clock } from '../../state/format.ts';
import { theme, timeMode } from '../../state/preferences.ts';

export interface Line {
  /** Name in the series. */
  readonly name: string;
  readonly label: string;
}

interface ChartProps {
  readonly title: string;
  readonly series: Series;
  readonly lines: readonly Line[];
  readonly format: (value: number | null) => string;
  readonly height?: number;
}

/** A chart spans this many values at least: two minutes of seconds. */
const LEAST_STEPS = 120;
const TIME_STEPS = [15, 30, 60, 120, 300, 600, 1800, 3600, 2 * 3600, 4 * 3600, 6 * 3600];
const DECIMAL_STEPS = Array.from({ length: 13 }, (_, power) =>
  [1, 2, 5].map((each) => each * 10 ** power),
).flat();
const BINARY_STEPS = Array.from({ length: 46 }, (_, power) => 2 ** power);

const DASHES: readonly (readonly number[])[] = [[], [6, 4], [2, 3], [10, 3, 2, 3], [1, 4], [12, 5]];
const DASH_TEXT = ['solid', 'dashed', 'dotted', 'dash and dot', 'sparse', 'long dashes'];

export function Chart({ title, series, lines, format, height = 180 }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const shown = lines.filter(({ name }) => series.values[name] !== undefined).slice(0, 6);
  const names = shown.map(({ name }) => name).join('\n');
  const mode = timeMode.value === 'utc' ? 'utc' : 'local';
  const colours = theme.value;
  const step = series.stepMs / 1000;
  const data = useRef<uPlot.AlignedData>([[]]);
  data.current = aligned(series, shown);

  useEffect(() => {
    let isCurrent = true;
    const make = async () => {
      const { default: UPlot } = await import('uplot');
      if (!isCurrent || box.current === null) return;
      chart.current?.destroy();
      const style = getComputedStyle(document.documentElement);
      const colour = (name: string) => style.getPropertyValue(name).trim();
      const axis = {
        stroke: resolved(box.current, '--muted'),
        grid: { stroke: resolved(box.current, '--hair'), width: 1 },
        ticks: { show: false },
        font: `11px ${colour('--sans')}`,
      };
      chart.current = new UPlot(
        {
          width: box.current.clientWidth,
          height,
          legend: { show: false },
          cursor: { y: false, points: { size: 6 } },
          padding: [10, 18, 0, 0],
          scales: {
            x: { range: (_, low, high) => spanOf(low, high, LEAST_STEPS * step) },
            y: { range: (_, _low, high) => [0, high > 0 ? high * 1.08 : 4] },
          },
          axes: [
            {
              ...axis,
              size: 26,
              incrs: TIME_STEPS,
              values: (_, splits) => splits.map((at) => timeText(at * 1000, mode)),
              space: 60,
            },
            {
              ...axis,
              size: 58,
              space: 34,
              incrs: format === bytes ? BINARY_STEPS : DECIMAL_STEPS,
              values: (_, splits) => splits.map((each) => format(each)),
            },
          ],
          series: [
            {},
            ...shown.map(({ label }, at) => ({
              label,
              stroke: resolved(box.current as Element, `--line${(at % 6) + 1}`),
              width: 1.75,
              dash: [...(DASHES[at] ?? [])],
              points: { show: false },
              ...(at === 0 && shown.length === 1
                ? { fill: resolved(box.current as Element, '--line1-area') }
                : {}),
            })),
          ],
        },
        data.current,
        box.current,
      );
    };
    make();
    const resize = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry?.contentRect.width ?? 0);
      if (width > 0) chart.current?.setSize({ width, height });
    });
    if (box.current !== null) resize.observe(box.current);
    const dark = window.matchMedia('(prefers-color-scheme: dark)');
    dark.addEventListener('change', make);
    return () => {
      isCurrent = false;
      resize.disconnect();
      dark.removeEventListener('change', make);
      chart.current?.destroy();
      chart.current = null;
    };
  }, [names, colours, mode, height]);

  useEffect(() => {
    chart.current?.setData(data.current);
  }, [series]);

  const minutes = Math.round(((data.current[0]?.length ?? 0) * series.stepMs) / 60_000);
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="legend">
          {shown.map(({ name, label }, at) => (
            <span key={name} class="legend-item">
              <svg class={`legend-line line${(at % 6) + 1}`} viewBox="0 0 24 4" aria-hidden="true">
                <line x1="0" y1="2" x2="24" y2="2" stroke-dasharray={DASHES[at]?.join(' ')} />
              </svg>
              {label} <b>{format(newest(series, name))}</b>
            </span>
          ))}
        </span>
      </figcaption>
      <div
        ref={box}
        class="chart-box"
        role="img"
        style={{ minHeight: `${height}px` }}
        aria-label={`${title}, the last ${minutes} minutes. ${shown
          .map(
            ({ name, label }, at) =>
              `${label} (${DASH_TEXT[at]}): ${summary(series, name, format)}`,
          )
          .join('. ')}`}
      />
      <Twin title={title} series={series} lines={shown} format={format} mode={mode} />
    </figure>
  );
}

/** The same numbers as a table: 20 rows from the first to the last. */
function Twin({
  title,
  series,
  lines,
  format,
  mode,
}: Omit<ChartProps, 'height'> & { mode: 'local' | 'utc' }) {
  const [isOpen, setOpen] = useState(false);
  const length = lengthOf(series);
  const every = Math.max(1, Math.floor(length / 20));
  const rows: number[] = [];
  for (let at = length - 1; at >= 0; at -= every) rows.push(at);
  return (
    <details class="twin" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>as a table</summary>
      {isOpen && (
        <table class="plain">
          <caption class="out-of-sight">{title}</caption>
          <thead>
            <tr>
              <th scope="col">Time</th>
              {lines.map(({ name, label }) => (
                <th key={name} scope="col" class="number">
                  {label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((at) => (
              <tr key={at}>
                <th scope="row">{clock(series.from + at * series.stepMs, mode)}</th>
                {lines.map(({ name }) => (
                  <td key={name} class="number">
                    {format(series.values[name]?.[at] ?? null)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </details>
  );
}

/** Without a point the chart ends now. */
function spanOf(low: number | null, high: number | null, least: number): [number, number] {
  const end = high ?? Date.now() / 1000;
  return [Math.min(low ?? end, end - least), end];
}

/** Minutes, and seconds where they are not whole. */
function timeText(at: number, mode: 'local' | 'utc'): string {
  const text = clock(at, mode).slice(0, 8);
  return text.endsWith(':00') ? text.slice(0, 5) : text;
}

function aligned(series: Series, lines: readonly Line[]): uPlot.AlignedData {
  // What was not measured yet takes no room: a server that has just started has a chart too.
  const start = firstKnown(series, lines);
  const times = Array.from(
    { length: lengthOf(series) - start },
    (_, at) => (series.from + (start + at) * series.stepMs) / 1000,
  );
  const values = lines.map(({ name }) => (series.values[name] ?? []).slice(start));
  return [times, ...values] as uPlot.AlignedData;
}

function firstKnown(series: Series, lines: readonly Line[]): number {
  const firsts = lines
    .map(({ name }) => (series.values[name] ?? []).findIndex((value) => value !== null))
    .filter((at) => at >= 0);
  return firsts.length === 0 ? 0 : Math.min(...firsts);
}

function lengthOf(series: Series): number {
  return Math.max(0, ...Object.values(series.values).map((values) => values.length));
}

function newest(series: Series, name: string): number | null {
  return series.values[name]?.findLast((value) => value !== null) ?? null;
}

function summary(series: Series, name: string, format: (value: number | null) => string): string {
  const values = (series.values[name] ?? []).filter((value) => value !== null);
  if (values.length === 0) return 'not measured yet';
  const least = values.reduce((a, b) => Math.min(a, b));
  const most = values.reduce((a, b) => Math.max(a, b));
  return `now ${format(values.at(-1) ?? null)}, least ${format(least)}, most ${format(most)}`;
}

/** A colour as the canvas can use it: the browser resolves light-dark() only in properties. */
function resolved(near: Element, name: string): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  near.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

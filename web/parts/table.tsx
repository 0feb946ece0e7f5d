/**
 * A table of any length: a real one, of which only the rows near the window are in the document.
 *
 * Invariants: at most 2000 nodes whatever the number of rows; the row with the focus stays in the document
 * and keeps the focus when rows change their order; the focus reaches each row, in the document or not;
 * where the window is narrow a row is a card, and each cell names its column.
 * Cost: a scroll computes two indexes; rows are taken to be as high as those that are shown.
 */
import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { BASE, withQuery } from '../state/router.ts';

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => ComponentChildren;
  readonly isNumber?: boolean;
  /** Names the row. */
  readonly isHead?: boolean;
  /** The value of `sort` in the query that sorts by it, and its direction. */
  readonly sort?: { readonly by: string; readonly direction: 'ascending' | 'descending' };
  readonly width?: 'wide';
  /** Its buttons name themselves, so its title is for screen readers only. */
  readonly isActions?: boolean;
}

export interface TableProps<Row> {
  readonly caption: string;
  readonly rows: readonly Row[];
  readonly keyOf: (row: Row) => string;
  readonly columns: readonly Column<Row>[];
  readonly sortedBy?: string;
  /** How many there are, when not all are here. */
  readonly total?: number;
  readonly selection?: {
    readonly chosen: ReadonlySet<string>;
    readonly choose: (keys: ReadonlySet<string>) => void;
  };
}

/** The rows of a table, for keys that move the focus along them. */
export interface RowReader {
  length(): number;
  /** First and last of the rows near the window. */
  shown(): { readonly first: number; readonly last: number };
  /** Index of the row that has the focus. */
  focused(): number | null;
  /** Moves the focus to a row, which comes into the document if it is not there. */
  focus(index: number): void;
}

const readers = new WeakMap<HTMLTableElement, RowReader>();

/** Undefined: this table is none of ours. */
export function rowsOf(table: HTMLTableElement): RowReader | undefined {
  return readers.get(table);
}

/** Fewer rows than this are all in the document. */
const WHOLE = 40;
const BEYOND = 8;

export function Table<Row>(props: TableProps<Row>) {
  const { rows, keyOf, columns, caption, selection } = props;
  const table = useRef<HTMLTableElement>(null);
  const body = useRef<HTMLTableSectionElement>(null);
  const { first, last, height } = useWindow(body, rows.length);
  const focused = useRef<{ key: string; index: number } | null>(null);
  const isMoving = useRef(false);
  const [, setMoves] = useState(0);

  // The browser takes the focus from a row that is moved; it is given back to the same row.
  useLayoutEffect(() => {
    const { current } = focused;
    const wasMoved = isMoving.current;
    isMoving.current = false;
    if (current === null || (!wasMoved && document.activeElement !== document.body)) return;
    const row = [...(body.current?.rows ?? [])].find((each) => each.dataset.key === current.key);
    focusTarget(row)?.focus({ preventScroll: true });
    if (wasMoved) row?.scrollIntoView({ block: 'nearest' });
  });

  useLayoutEffect(() => {
    if (table.current === null) return;
    readers.set(table.current, {
      length: () => rows.length,
      shown: () => ({ first, last: last - 1 }),
      focused() {
        const { current } = focused;
        const { activeElement, body: page } = document;
        // A click beside the rows leaves the place where a person was.
        const isHere = activeElement === page || body.current?.contains(activeElement);
        if (current === null || !isHere) return null;
        const index = indexOfKey(rows, keyOf, current);
        return index < 0 ? null : index;
      },
      focus(index) {
        focused.current = { key: keyOf(rows[index] as Row), index };
        isMoving.current = true;
        setMoves((before) => before + 1);
      },
    });
  });

  const shown: number[] = [];
  for (let index = first; index < last; index += 1) shown.push(index);
  const kept = focused.current === null ? -1 : indexOfKey(rows, keyOf, focused.current);
  if (kept >= 0 && kept < first) shown.unshift(kept);
  if (kept >= last) shown.push(kept);

  const width = columns.length + (selection === undefined ? 0 : 1);
  const items: ComponentChildren[] = [];
  let at = 0;
  for (const index of shown) {
    if (index > at)
      items.push(
        <Gap
          key={`gap${at === 0 ? 'above' : at}`}
          rows={index - at}
          height={height}
          width={width}
        />,
      );
    const row = rows[index] as Row;
    items.push(
      <TableRow key={keyOf(row)} row={row} rowKey={keyOf(row)} index={index} table={props} />,
    );
    at = index + 1;
  }
  if (at < rows.length)
    items.push(<Gap key="gapbelow" rows={rows.length - at} height={height} width={width} />);

  return (
    <table
      ref={table}
      role="table"
      class="table"
      aria-rowcount={(props.total ?? rows.length) + 1}
      onFocusIn={(event) => {
        const row = (event.target as Element).closest('tr');
        const key = row?.dataset.key;
        focused.current = key === undefined ? null : { key, index: Number(row?.dataset.index) };
      }}
      onFocusOut={(event) => {
        if (event.relatedTarget !== null) focused.current = null;
      }}
    >
      <caption class="out-of-sight">{caption}</caption>
      <thead role="rowgroup">
        <tr role="row" aria-rowindex={1}>
          {selection !== undefined && (
            <th role="columnheader" scope="col" class="choose">
              <ChooseAll rows={rows.map(keyOf)} selection={selection} />
            </th>
          )}
          {columns.map((column) => (
            <Head key={column.title} column={column} sortedBy={props.sortedBy} />
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup" ref={body}>
        {items}
      </tbody>
    </table>
  );
}

function Head<Row>({ column, sortedBy }: { column: Column<Row>; sortedBy: string | undefined }) {
  const { sort, title } = column;
  const classes = column.isNumber ? 'number' : '';
  if (sort === undefined) {
    return (
      <th role="columnheader" scope="col" class={classes}>
        {column.isActions ? <span class="out-of-sight">{title}</span> : title}
      </th>
    );
  }
  const isIt = sort.by === sortedBy;
  return (
    <th
      role="columnheader"
      scope="col"
      class={classes}
      {...(isIt ? { 'aria-sort': sort.direction } : {})}
    >
      <a href={BASE + withQuery({ sort: sort.by, after: null })}>
        {title}
        <span class="sort-mark" aria-hidden="true">
          {isIt ? (sort.direction === 'ascending' ? ' ↑' : ' ↓') : ''}
        </span>
      </a>
    </th>
  );
}

function TableRow<Row>({
  row,
  rowKey,
  index,
  table: { columns, selection },
}: {
  row: Row;
  rowKey: string;
  index: number;
  table: TableProps<Row>;
}) {
  const isChosen = selection?.chosen.has(rowKey) ?? false;
  const choose = () => {
    const next = new Set(selection?.chosen);
    if (!next.delete(rowKey)) next.add(rowKey);
    selection?.choose(next);
  };
  return (
    <tr
      role="row"
      aria-rowindex={index + 2}
      data-key={rowKey}
      data-index={index}
      tabIndex={-1}
      class={isChosen ? 'chosen' : ''}
    >
      {selection !== undefined && (
        <td role="cell" class="choose">
          <input
            type="checkbox"
            checked={isChosen}
            onChange={choose}
            aria-label={`Choose ${rowKey}`}
          />
        </td>
      )}
      {columns.map((column) => {
        const classes = [column.isNumber && 'number', column.width].filter(Boolean).join(' ');
        return column.isHead ? (
          <th key={column.title} role="rowheader" scope="row" class={classes}>
            {column.cell(row)}
          </th>
        ) : (
          <td
            key={column.title}
            role="cell"
            class={classes}
            data-title={column.isActions ? '' : column.title}
          >
            {column.cell(row)}
          </td>
        );
      })}
    </tr>
  );
}

function ChooseAll({
  rows,
  selection,
}: {
  rows: readonly string[];
  selection: NonNullable<TableProps<unknown>['selection']>;
}) {
  const box = useRef<HTMLInputElement>(null);
  const chosen = rows.filter((key) => selection.chosen.has(key)).length;
  useEffect(() => {
    if (box.current !== null) box.current.indeterminate = chosen > 0 && chosen < rows.length;
  });
  const all = rows.length > 0 && chosen === rows.length;
  return (
    <label>
      <input
        ref={box}
        type="checkbox"
        checked={all}
        onChange={() => selection.choose(new Set(all ? [] : rows))}
        aria-label="Choose all that are shown"
      />
      <span class="choose-text" aria-hidden="true">
        Choose all
      </span>
    </label>
  );
}

function Gap({ rows, height, width }: { rows: number; height: number; width: number }) {
  return (
    <tr aria-hidden="true" class="gap">
      <td colSpan={width} style={{ height: `${rows * height}px` }} />
    </tr>
  );
}

/** Which rows are near the window. */
function useWindow(body: { current: HTMLTableSectionElement | null }, length: number) {
  const [view, setView] = useState({ first: 0, last: Math.min(length, WHOLE), height: 40 });
  const isWhole = length <= WHOLE;

  useLayoutEffect(() => {
    if (isWhole) return;
    const measure = () => {
      if (body.current === null) return;
      const heights = [...body.current.rows]
        .filter((row) => row.dataset.key !== undefined)
        .map((row) => row.offsetHeight);
      const height =
        heights.length === 0 ? 40 : heights.reduce((sum, each) => sum + each, 0) / heights.length;
      const above = -body.current.getBoundingClientRect().top;
      const first = Math.max(0, Math.floor(above / height) - BEYOND);
      const visible = Math.ceil(window.innerHeight / height) + 2 * BEYOND;
      const start = Math.min(first, Math.max(0, length - visible));
      const next = { first: start, last: Math.min(length, start + visible), height };
      setView((before) =>
        before.first === next.first &&
        before.last === next.last &&
        Math.abs(before.height - next.height) < 0.5
          ? before
          : next,
      );
    };
    let frame = 0;
    const later = () => {
      window.cancelAnimationFrame(frame);
      frame = window.requestAnimationFrame(measure);
    };
    measure();
    window.addEventListener('scroll', later, { passive: true });
    window.addEventListener('resize', later, { passive: true });
    return () => {
      window.cancelAnimationFrame(frame);
      window.removeEventListener('scroll', later);
      window.removeEventListener('resize', later);
    };
  }, [length, isWhole, body]);

  if (isWhole) return { first: 0, last: length, height: 40 };
  const last = Math.min(length, view.last);
  return { first: Math.min(view.first, last), last, height: view.height };
}

function indexOfKey<Row>(
  rows: readonly Row[],
  keyOf: (row: Row) => string,
  { key, index }: { key: string; index: number },
): number {
  if (rows[index] !== undefined && keyOf(rows[index] as Row) === key) return index;
  return rows.findIndex((row) => keyOf(row) === key);
}

/** What takes the focus in a row: its link, its button, or the row. */
function focusTarget(row: HTMLTableRowElement | undefined): HTMLElement | undefined {
  return row?.querySelector<HTMLElement>('th a, td a, td button, th button') ?? row;
}

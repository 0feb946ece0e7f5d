/**
 * The pages of a group that were only in the checkpoint when its delivery order was built, in the
 * order of one of their bounds (page-bounds.ts), of equal bounds by id.
 *
 * No page is unloaded later, so the order is made once; pages that were loaded for another reason, or
 * have gone, are passed over.
 * Cost: O(pages log pages) once; each page is passed once.
 */
import type { PageBounds } from './page-bounds.ts';
import type { PendingPage } from './pending-page.ts';

export class UnloadedPages {
  readonly #pages: PendingPage[];
  readonly #boundOf: (bounds: PageBounds) => number;
  #next = 0;

  constructor(pages: readonly PendingPage[], boundOf: (bounds: PageBounds) => number) {
    this.#boundOf = boundOf;
    this.#pages = pages
      .filter(({ columns, bounds }) => columns === null && boundOf(bounds) < Infinity)
      .sort((a, b) => boundOf(a.bounds) - boundOf(b.bounds) || a.low.compare(b.low));
  }

  /** The page whose entries can come first. */
  get first(): PendingPage | undefined {
    const pages = this.#pages;
    while (this.#next < pages.length && !isUnloaded(pages[this.#next])) this.#next++;
    return pages[this.#next];
  }

  /** No entry of the kind in any of the pages is before this; Infinity when no page is left. */
  get bound(): number {
    const { first } = this;
    return first === undefined ? Number.POSITIVE_INFINITY : this.#boundOf(first.bounds);
  }
}

function isUnloaded({ columns, live }: PendingPage): boolean {
  return columns === null && live > 0;
}

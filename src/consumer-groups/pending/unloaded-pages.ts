/**
 * The pages of a group whose entries were not in its delivery order when that was built, in the order of
 * one of their bounds (page-bounds.ts), of equal bounds by id. They may be only in the checkpoint.
 *
 * No page leaves the delivery order later, and none changes before it is in it, so this order is made
 * once; pages that came into it for another reason, or have gone, are passed over.
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
      .filter((page) => isOutside(page) && boundOf(page.bounds) < Infinity)
      .sort((a, b) => boundOf(a.bounds) - boundOf(b.bounds) || a.low.compare(b.low));
  }

  /** The page whose entries can come first. */
  get first(): PendingPage | undefined {
    const pages = this.#pages;
    while (this.#next < pages.length && !isOutside(pages[this.#next])) this.#next++;
    return pages[this.#next];
  }

  /** No entry of the kind in any of the pages is before this; Infinity when no page is left. */
  get bound(): number {
    const { first } = this;
    return first === undefined ? Number.POSITIVE_INFINITY : this.#boundOf(first.bounds);
  }
}

function isOutside({ columns, live }: PendingPage): boolean {
  return live > 0 && (columns === null || columns.slot === null);
}

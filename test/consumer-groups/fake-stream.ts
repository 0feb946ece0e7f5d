/**
 * A stream of ids alone, as slow and as plain as can be: what groups ask of a stream (StreamView),
 * with XADD, XDEL and XTRIM doing to the counters what Redis does.
 */
import type { StreamView } from '../../src/consumer-groups/index.ts';
import { StreamId } from '../../src/stream/stream-id.ts';

export class FakeStream implements StreamView {
  ids: StreamId[] = [];
  entriesAdded = 0;
  readonly lastId = new StreamId();
  readonly firstId = new StreamId();
  readonly maxDeletedId = new StreamId();

  get length(): number {
    return this.ids.length;
  }

  has(id: StreamId): boolean {
    return this.ids.some((other) => other.equals(id));
  }

  add(id: StreamId): void {
    this.ids.push(id.clone());
    this.lastId.copy(id);
    this.entriesAdded++;
    this.#findFirst();
  }

  delete(id: StreamId): boolean {
    const index = this.ids.findIndex((other) => other.equals(id));
    if (index === -1) return false;
    this.ids.splice(index, 1);
    if (id.compare(this.maxDeletedId) > 0) this.maxDeletedId.copy(id);
    this.#findFirst();
    return true;
  }

  trim(maxLength: number): void {
    while (this.ids.length > maxLength) this.ids.shift();
    this.#findFirst();
  }

  after(id: StreamId): StreamId[] {
    return this.ids.filter((other) => other.compare(id) > 0);
  }

  #findFirst(): void {
    if (this.ids.length > 0) this.firstId.copy(this.ids[0]);
    else this.firstId.setMin();
  }
}

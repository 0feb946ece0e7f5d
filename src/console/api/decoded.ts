/** A body in a form that a page can show. */

export type Decoder = 'auto' | 'json' | 'msgpack' | 'text' | 'hex' | 'proto';

/** A body, or the first bytes of it, in a form to be shown. Always text: never markup. */
export interface Decoded {
  /** What it was decoded as. */
  readonly as: 'json' | 'msgpack' | 'text' | 'hex' | 'proto' | 'empty';
  readonly text: string;
  /** `text` holds less than the body. */
  readonly cut: boolean;
  /** Why the decoder that was asked for failed; `text` then is hex. */
  readonly error: string | null;
  /** Some values were masked. */
  readonly masked: boolean;
}

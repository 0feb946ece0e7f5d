/**
 * The text of a field that is part of the address too.
 *
 * Invariant: an address that changes replaces the text, unless it is the change that this field made: what a
 * person typed meanwhile stays.
 */
import { useLayoutEffect, useRef, useState } from 'preact/hooks';

export interface Draft {
  readonly text: string;
  type(text: string): void;
  /** Returns the text, which is about to be put into the address. */
  sent(text: string): string;
}

export function useDraft(stored: string): Draft {
  const [text, setText] = useState(stored);
  const known = useRef(stored);
  useLayoutEffect(() => {
    if (known.current === stored) return;
    known.current = stored;
    setText(stored);
  }, [stored]);
  return {
    text,
    type: setText,
    sent(next) {
      known.current = next;
      return next;
    },
  };
}

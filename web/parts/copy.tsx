/** A button that copies a text, and says so. */
import { announce } from '../state/announce.ts';

export function Copy({ text, what }: { text: string; what: string }) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      announce(`Copied ${what}`);
    } catch {
      announce('The browser does not allow copying here: select the text and copy it by keyboard');
    }
  };
  return (
    <button type="button" class="quiet" onClick={copy} aria-label={`Copy ${what}`}>
      copy
    </button>
  );
}

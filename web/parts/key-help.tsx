/** The list of keys, as a dialog. */
import { useEffect, useRef } from 'preact/hooks';
import { isHelpOpen } from '../state/keys.ts';
import { PLACES } from '../state/places.ts';

export function KeyHelp() {
  const dialog = useRef<HTMLDialogElement>(null);
  const isOpen = isHelpOpen.value;
  useEffect(() => {
    if (isOpen) dialog.current?.showModal();
    else dialog.current?.close();
  }, [isOpen]);
  return (
    <dialog
      ref={dialog}
      aria-labelledby="keys-title"
      onClose={() => {
        isHelpOpen.value = false;
      }}
    >
      {isOpen && (
        <>
          <h2 id="keys-title">Keyboard</h2>
          <dl class="keys">
            <dt>
              <kbd>/</kbd>
            </dt>
            <dd>Search</dd>
            <dt>
              <kbd>j</kbd> <kbd>k</kbd>
            </dt>
            <dd>Next row, the row before; Enter opens it</dd>
            {PLACES.map(({ letter, text }) => [
              <dt key={letter}>
                <kbd>g</kbd> <kbd>{letter}</kbd>
              </dt>,
              <dd key={text}>{text}</dd>,
            ])}
            <dt>
              <kbd>?</kbd>
            </dt>
            <dd>This list</dd>
            <dt>
              <kbd>Esc</kbd>
            </dt>
            <dd>Close a dialog, leave the search</dd>
          </dl>
          <form method="dialog">
            <button type="submit">Close</button>
          </form>
        </>
      )}
    </dialog>
  );
}

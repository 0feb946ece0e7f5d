/** An address that is no page. */

import { Page } from '../parts/page.tsx';
import { Notice } from '../parts/states.tsx';
import { PLACES } from '../state/places.ts';
import { BASE } from '../state/router.ts';

export function NotFoundPage() {
  return (
    <Page title="No such page">
      <Notice kind="empty" title="The console has no page at this address">
        <p>These are there:</p>
        <ul>
          {PLACES.map(({ text, to }) => (
            <li key={to}>
              <a href={BASE + to}>{text}</a>
            </li>
          ))}
        </ul>
      </Notice>
    </Page>
  );
}

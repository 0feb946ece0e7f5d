/**
 * The console in the browser: starts, asks which user is logged in, and shows the page of the address.
 *
 * Invariants: a page's code is loaded when it is first opened; an error of one page leaves the navigation
 * usable; text from messages only ever becomes text nodes.
 */
import { type ComponentType, render } from 'preact';
import { useEffect, useErrorBoundary, useState } from 'preact/hooks';
import { Login } from './pages/login.tsx';
import { ActionHost } from './parts/actions/action-dialog.tsx';
import { Failed, Loading, Notice } from './parts/states.tsx';
import { findRoute, type PageProps } from './routes.ts';
import { Shell } from './shell.tsx';
import { failureOf } from './state/api.ts';
import { listenToKeys } from './state/keys.ts';
import { lose } from './state/live.ts';
import { startPreferences } from './state/preferences.ts';
import { interceptLinks, place, visits } from './state/router.ts';
import { endedUser, loadRoot, root, rootFailure } from './state/session.ts';

function Console() {
  const isIn = root.value !== null;
  // While a login is asked for again, the pages stay as they were, and are not shown.
  const user = root.value?.user ?? endedUser.value;
  return (
    <>
      {user !== null && (
        <div key={`user ${user}`} class="pages" hidden={!isIn}>
          <Shell>
            <CurrentPage key={visits.value} />
          </Shell>
        </div>
      )}
      {!isIn && <Entrance />}
      <ActionHost />
    </>
  );
}

function Entrance() {
  const failure = rootFailure.value;
  if (failure === null) return <Loading />;
  if (failure.status === 401) return <Login />;
  return (
    <main class="alone">
      <h1>Rivulet</h1>
      <Failed failure={failure} retry={loadRoot} />
    </main>
  );
}

function CurrentPage() {
  const { path } = place.value;
  const [error, reset] = useErrorBoundary();
  const [state, setState] = useState<{
    path: string;
    Page?: ComponentType<PageProps>;
    failed?: boolean;
  }>({ path: '' });
  const route = findRoute(path);

  useEffect(() => {
    let isCurrent = true;
    route.load().then(
      (Page) => isCurrent && setState({ path, Page }),
      () => isCurrent && setState({ path, failed: true }),
    );
    return () => {
      isCurrent = false;
    };
  }, [path]);

  if (error !== undefined) {
    return <Failed failure={failureOf(error)} retry={reset} />;
  }
  if (state.path !== path) return <Loading />;
  if (state.Page === undefined) {
    return (
      <Notice kind="broken" title="This page could not be loaded">
        <p>The server does not answer, or runs another version of the console than this tab.</p>
        <p>
          <button type="button" onClick={() => window.location.reload()}>
            Load it again
          </button>
        </p>
      </Notice>
    );
  }
  return <state.Page parts={route.parts} />;
}

startPreferences();
interceptLinks();
listenToKeys();
render(<Console />, document.querySelector('#console') as Element);
loadRoot().then(() => {
  if (rootFailure.value?.isOutage) lose();
});

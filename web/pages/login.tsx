/** The login: a user of the server and its password. The address stays, so it leads on to where it was. */
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { Mark } from '../parts/icons.tsx';
import { announce, announcement } from '../state/announce.ts';
import { type ApiFailure, failureOf } from '../state/api.ts';
import { resume } from '../state/live.ts';
import { endedUser, logIn } from '../state/session.ts';

export function Login() {
  const [user, setUser] = useState(endedUser.value || 'default');
  const [password, setPassword] = useState('');
  const [failure, setFailure] = useState<ApiFailure | null>(null);
  const [isBusy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => {
    document.title = 'Log in · Rivulet';
    field.current?.focus();
  }, []);
  const submit = async () => {
    setBusy(true);
    setFailure(null);
    try {
      await logIn({ user, password });
      resume();
      announce(`You are logged in as ${user}`);
    } catch (error) {
      setFailure(failureOf(error));
      setPassword('');
      field.current?.focus();
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="alone login">
      <div class="brand">
        <Mark />
        <span>Rivulet</span>
      </div>
      <h1>Log in</h1>
      <p class="hint">
        {endedUser.value === null
          ? 'With a user of the server, as its clients do.'
          : 'Your session has ended. What you have typed is kept until you are back.'}
      </p>
      <form
        class="section"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        <div class="field">
          <label for="login-user">User</label>
          <input
            id="login-user"
            name="username"
            autocomplete="username"
            required
            spellcheck={false}
            value={user}
            onInput={(event) => setUser(event.currentTarget.value)}
          />
        </div>
        <div class="field">
          <label for="login-password">Password</label>
          <input
            ref={field}
            id="login-password"
            name="password"
            type="password"
            autocomplete="current-password"
            value={password}
            onInput={(event) => setPassword(event.currentTarget.value)}
          />
        </div>
        {failure !== null && (
          <p class="field-error" role="alert">
            <span aria-hidden="true">▲ </span>
            {failure.message} {failure.hint}
          </p>
        )}
        <p>
          <button type="submit" class="primary" disabled={isBusy}>
            Log in
          </button>
        </p>
      </form>
      <div role="status" aria-live="polite" class="out-of-sight">
        {announcement.value}
      </div>
    </main>
  );
}

/**
 * Calls a listener. What it throws, or rejects with when it is an async function, goes to `onError`:
 * it harms neither the caller nor the program.
 */
export function notify<T>(
  listener: (value: T) => void,
  value: T,
  onError: (error: unknown) => void,
): void {
  try {
    const result: unknown = listener(value);
    if (result instanceof Promise) result.catch(onError);
  } catch (error) {
    onError(error);
  }
}

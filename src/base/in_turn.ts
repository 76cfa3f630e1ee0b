/**
 * Makes a function that finishes with one item before it takes the next, also when it is called
 * from within itself: what follows from an event is told to nobody before all have been told of the
 * event. What it throws keeps none of the others; the first is thrown on at the end.
 */
export function inTurn<T>(take: (item: T) => void): (item: T) => void {
  const waiting: T[] = [];
  let isTaking = false;
  return (item) => {
    waiting.push(item);
    if (isTaking) return;
    isTaking = true;
    let failure: { readonly error: unknown } | undefined;
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      try {
        take(next);
      } catch (error) {
        failure ??= { error };
      }
    }
    isTaking = false;
    if (failure !== undefined) throw failure.error;
  };
}

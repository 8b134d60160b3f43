"""What is wrong with a device, a store or a job, what is safe, and what to do; and the package of
papers that goes to whoever is asked for help. Looks, and changes nothing.
"""
